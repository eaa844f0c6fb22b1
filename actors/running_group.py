"""A group in the engine: a request for each order of the responses that it reads, all submitted together."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from actors.generator import Request
from buffer.messages import Completion, Prompt, first_completions
from buffer.streams import Entry


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningGroup:
    """A group that is being sampled."""

    entry: Entry
    """The claim."""
    prompt: Prompt
    """What is sampled."""
    futures: Sequence[Future[tuple[Completion, ...]]]
    """Of the completions of each view."""
    submitted_at: float
    """When it was given to the engine, by the monotonic clock."""

    @property
    def done(self) -> bool:
        """Whether all its views are sampled."""
        return all(future.done() for future in self.futures)

    @property
    def completions(self) -> tuple[Completion, ...]:
        """All completions, in the order of the views. Raises what the engine raised."""
        return tuple(completion for future in self.futures for completion in future.result())


def requests(prompt: Prompt, *, temperature: float, max_new_tokens: int) -> list[Request]:
    """Returns a request for each view.

    The engine seeds completion i of a request with its seed + i. So a view's seed counts on from the views before it: no two
    completions of a group share one.
    """
    before = first_completions([view.samples for view in prompt.views])
    return [
        Request(
            token_ids=view.token_ids,
            samples=view.samples,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=None if prompt.seed is None else prompt.seed + offset,
        )
        for view, offset in zip(prompt.views, before, strict=True)
    ]
