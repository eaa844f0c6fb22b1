"""The prompts of a batch with their completions: a group has one for each order of the responses (pure, standard library)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

PromptGroup = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Token ids of a prompt and of its completions."""


class Completions(Protocol):
    """Completions of one preference: an `ExperienceGroup`, or a group of the cold start's samples."""

    @property
    def prompt_ids(self) -> Sequence[Sequence[int]]: ...
    @property
    def samples(self) -> Sequence[int]: ...
    @property
    def completion_ids(self) -> Sequence[Sequence[int]]: ...


def by_prompt(groups: Iterable[Completions]) -> Iterator[PromptGroup]:
    """Yield each prompt with its completions, in the order of the batch: those that have read one order of the responses."""
    for group in groups:
        ends = accumulate(group.samples)
        for prompt, count, end in zip(group.prompt_ids, group.samples, ends, strict=True):
            yield prompt, group.completion_ids[end - count : end]
