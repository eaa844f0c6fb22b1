"""Rows whose completions share a prompt, cut into segments of which attention computes each alone (pure torch).

    a prompt        causal
    a completion    its tokens are the queries; the prompt of its row and its own tokens are the keys

For a prompt of P tokens and G completions of n this is P² + G n (P + n) pairs of tokens; a mask over the whole row has
(P + G n)². Completions are padded and computed together as long as none has less than half of the tokens of the longest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.batching import Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Completions:
    """Completions of similar length, which are computed together."""

    rows: Tensor
    """[C] int64: the row of each."""
    places: Tensor
    """[C * longest] int64: the places of their tokens in the flattened rows, 0 where they are padded."""
    mask: Tensor
    """[C, 1, longest, longest prompt + longest] bool: which query sees which key of the prompt and of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """What attention computes of a micro-batch."""

    prompt: int
    """Tokens of the longest prompt."""
    window: Tensor | None
    """[prompt, prompt] bool: which token of a prompt sees which, where that is not all before it."""
    completions: tuple[Completions, ...]
    """All of the micro-batch, the longest first."""
    sources: Tensor
    """[rows * length] int64: where each place finds its result among those of the prompts and of `completions`, in order."""


def segments_of(tokens: Tokens, window: int | None) -> Segments:
    """Return what layers with this window compute of some rows."""
    rows, length = tokens.segments.shape
    prompts = (tokens.segments == 0).sum(dim=1)
    longest = int(prompts.max())
    sources = torch.zeros(rows, length, dtype=torch.int64)
    sources[:, :longest] = torch.arange(rows * longest).view(rows, longest)  # completions overwrite what is theirs
    sources, done, together = sources.flatten(), rows * longest, []
    spans = sorted(_spans(tokens.segments, prompts.tolist()), key=lambda span: (-span[2], span[0], span[1]))
    for alike in _of_similar_length(spans):
        width = alike[0][2]
        places = torch.zeros(len(alike), width, dtype=torch.int64)
        for own, (row, start, count) in zip(places, alike, strict=True):
            first = row * length + start
            own[:count] = torch.arange(first, first + count)
            sources[first : first + count] = torch.arange(done, done + count)
            done += width
        of_rows = torch.tensor([row for row, _, _ in alike])
        mask = _mask(prompts[of_rows], longest, width, window)
        together.append(Completions(rows=of_rows, places=places.flatten(), mask=mask))
    at = torch.arange(longest)
    bounded = None if window is None or window >= longest else _sees(at[:, None], at, window)
    return Segments(prompt=longest, window=bounded, completions=tuple(together), sources=sources)


def _spans(segments: Tensor, prompts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield row, first place and number of tokens of each completion."""
    for row, (of, start) in enumerate(zip(segments, prompts, strict=True)):
        for count in torch.bincount(of[of > 0])[1:].tolist():
            yield row, start, count
            start += count


def _of_similar_length(spans: Sequence[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Yield the spans, which come the longest first, in lists of which none is less than half as long as the first."""
    alike: list[tuple[int, int, int]] = []
    for span in spans:
        if alike and 2 * span[2] < alike[0][2]:
            yield alike
            alike = []
        alike.append(span)
    if alike:
        yield alike


def _mask(prompts: Tensor, longest: int, width: int, window: int | None) -> Tensor:
    """Return `Completions.mask` of completions that stand behind prompts of these lengths, [C]."""
    before, own = prompts[:, None, None], torch.arange(width)
    of_prompt = torch.arange(longest)
    sees_prompt = (of_prompt < before) & _sees(before + own[:, None], of_prompt, window)
    sees_own = _sees(own[:, None], own, window).expand(len(prompts), -1, -1)
    return torch.cat([sees_prompt, sees_own], dim=2)[:, None]


def _sees(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Return whether a position sees another one."""
    seen = key <= query
    return seen if window is None else seen & (key > query - window)
