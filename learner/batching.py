"""Packing a batch into rows, splitting these into micro-batches and sharding them over ranks (pure torch).

A batch is the sum of its micro-batches because every coefficient in the loss has a global divisor; where it is split and
which rank computes what changes the result by rounding only. Everything here is deterministic in its arguments.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from learner.prompt_groups import PromptGroup as PromptGroup

PAD = 0  # token id in padded places, which no real token attends to


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedRow:
    """A prompt followed by some of its completions."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    completions: tuple[int, ...]
    """Their indices in the batch."""
    length: int
    """Tokens of the prompt and of these completions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Right-padded rows, each a prompt as the shared prefix of its completions, and where to read the results.

    A token attends to what is before it in its own segment and in the prompt: to what it would attend to if its
    completion were alone behind the prompt.
    """

    input_ids: Tensor
    """[rows, length] int64."""
    positions: Tensor
    """[rows, length] int64, counted from the prompt's start as if the token's completion followed it directly. In padding they
    count on, or are 0 where a row holds several completions."""
    segments: Tensor
    """[rows, length] int64: 0 is the prompt, 1, 2, ... are the completions, -1 is padding."""
    predicting: Tensor
    """[T] int64, of each completion token: the place in the flattened rows whose hidden state predicts it."""
    targets: Tensor
    """[T] int64, of each completion token, in the order of the completions: its id."""
    ends: Tensor
    """[completions] int64: the places of their last tokens in the flattened rows."""

    def to(self, device: torch.device) -> "Tokens":
        """Return a copy on `device`."""
        return Tokens(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def pack_rows(groups: Iterable[PromptGroup], limit: int, *, share: bool) -> list[PackedRow]:
    """Return the rows of a batch: for each prompt as few as hold its completions within `limit` tokens a row.

    The prompt is computed once per row, which for G short completions of a long prompt is nearly G times less work.

    Args:
        groups: prompts with their completions; completions are numbered through the whole batch.
        limit: tokens of a row, at most, unless it holds a single completion.
        share: whether several completions may share a row.
    """
    rows: list[PackedRow] = []
    index = 0
    for prompt, completions in groups:
        taken: list[int] = []
        length = len(prompt)
        for completion in completions:
            if taken and (not share or length + len(completion) > limit):
                rows.append(PackedRow(prompt=prompt, completions=tuple(taken), length=length))
                taken, length = [], len(prompt)
            taken.append(index)
            length += len(completion)
            index += 1
        rows.append(PackedRow(prompt=prompt, completions=tuple(taken), length=length))
    return rows


def split_micro_batches(lengths: Sequence[int], micro_tokens: int, ranks: int) -> list[list[int]]:
    """Return the indices of each micro-batch: rows x longest row <= micro_tokens, as many micro-batches on each rank.

    Rows are taken from the longest to the shortest (ties by index), so that rows of a micro-batch are of similar length
    and little is padding. The number of micro-batches is the smallest possible multiple of `ranks`, and their budget the
    smallest that suffices for that number, so that they, and the work of the ranks, are about even. If there are too few
    rows, some micro-batches stay empty.

    Args:
        lengths: tokens of each row.
        micro_tokens: tokens of a micro-batch at most, padding included.
        ranks: how many ranks share the work.

    Raises:
        ValueError: one row alone is over the budget.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    longest = lengths[order[0]]
    if longest > micro_tokens:
        raise ValueError(
            f"a row of {longest} tokens does not fit into a micro-batch of {micro_tokens}:"
            " raise micro_tokens to model.context at least"
        )
    wanted = -(-len(_packed(order, lengths, micro_tokens)) // ranks) * ranks
    budgets = range(longest, micro_tokens + 1)
    at = bisect_left(budgets, True, key=lambda budget: len(_packed(order, lengths, budget)) <= wanted)
    cuts = _packed(order, lengths, budgets[at])
    while len(cuts) < wanted and any(len(part) > 1 for part in cuts):
        largest = max(range(len(cuts)), key=lambda i: (len(cuts[i]) > 1, len(cuts[i]) * lengths[cuts[i][0]], -i))
        part, half = cuts[largest], (len(cuts[largest]) + 1) // 2
        cuts[largest : largest + 1] = [part[:half], part[half:]]
    return cuts + [[] for _ in range(wanted - len(cuts))]


def _packed(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return `order` (descending lengths), split wherever one more row would exceed the budget."""
    cuts: list[list[int]] = []
    for index in order:
        if not cuts or (len(cuts[-1]) + 1) * lengths[cuts[-1][0]] > budget:
            cuts.append([])
        cuts[-1].append(index)
    return cuts


def shard(micro_batches: Sequence[list[int]], rank: int, ranks: int) -> list[list[int]]:
    """Return the micro-batches of one rank: every `ranks`-th, so that those computed at the same time are of one size."""
    if len(micro_batches) % ranks:
        raise ValueError(
            f"{len(micro_batches)} micro-batches cannot be dealt evenly to {ranks} ranks: split_micro_batches makes a multiple"
        )
    return list(micro_batches[rank::ranks])


def micro_batches_of_rank(
    groups: Iterable[PromptGroup], limit: int, *, share: bool, rank: int, ranks: int
) -> list[list[PackedRow]]:
    """Return the rows of each micro-batch that one rank computes: `pack_rows`, `split_micro_batches`, `shard`."""
    rows = pack_rows(groups, limit, share=share)
    micro_batches = split_micro_batches([row.length for row in rows], limit, ranks)
    return [[rows[index] for index in micro_batch] for micro_batch in shard(micro_batches, rank, ranks)]


def collate(rows: Sequence[PackedRow], completions: Sequence[Sequence[int]]) -> Tokens:
    """Return the tensors of some rows.

    No rows give one row of two padding tokens with one target: a micro-batch for a rank that has nothing to compute but
    must take part in the collectives. Its coefficients must be 0.

    Args:
        rows: of one micro-batch.
        completions: those of the whole batch, each of at least one token.
    """
    if not rows:
        rows, completions = [PackedRow(prompt=[PAD], completions=(0,), length=2)], [[PAD]]
    width = max(row.length for row in rows)
    alone = all(len(row.completions) == 1 for row in rows)
    ids, positions, segments, predicting, ends = [], [], [], [], []
    for number, row in enumerate(rows):
        start, prompt = number * width, len(row.prompt)
        row_ids, row_positions, row_segments = list(row.prompt), list(range(prompt)), [0] * prompt
        for segment, index in enumerate(row.completions, start=1):
            length, first = len(completions[index]), start + len(row_ids)
            row_ids += completions[index]
            row_positions += range(prompt, prompt + length)
            row_segments += [segment] * length
            predicting += [start + prompt - 1, *range(first, first + length - 1)]
            ends.append(first + length - 1)
        padding = width - row.length
        ids.append(row_ids + [PAD] * padding)
        # Padding counts on behind a lone completion: transformers takes what does not for packed sequences, and builds a mask.
        positions.append(row_positions + (list(range(row.length, width)) if alone else [0] * padding))
        segments.append(row_segments + [-1] * padding)
    chosen = [token for row in rows for index in row.completions for token in completions[index]]
    return Tokens(
        input_ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        segments=torch.tensor(segments),
        predicting=torch.tensor(predicting),
        targets=torch.tensor(chosen),
        ends=torch.tensor(ends),
    )


def per_token(values: Sequence[float], counts: Sequence[int]) -> Tensor:
    """Return one value per completion, repeated for each of its tokens: [sum of counts], float32."""
    return torch.repeat_interleave(torch.tensor(values, dtype=torch.float32), torch.tensor(counts))
