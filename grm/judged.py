"""Judged preferences: what a judge said about each, for the tables of `grm.benchmarks`."""

from dataclasses import dataclass
from math import isnan

from grm.voting import Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One judgement of a preference."""

    scores: Scores | None
    """Scores in the preference's own order; None if unparsable."""
    permutation: tuple[int, ...]
    """permutation[shown position] = index of the response in the preference's own order."""
    tokens: int
    """Length of the completion."""
    failure: str = ""
    """Why it is unparsable, "" if it is not."""
    meta: float | None = None
    """The meta-RM's belief that it is right, as a logit z; None if there is no meta score."""
    strict: bool = True
    """Whether the strict parser read its scores, and not the lenient one alone."""
    expected: tuple[float, ...] | None = None
    """Expected scores (`grm.expected_scores`) in the preference's own order; None if nobody asked for them."""

    def __post_init__(self) -> None:
        if sorted(self.permutation) != list(range(len(self.permutation))):
            raise ValueError(f"permutation {self.permutation}: give the index of each response once")
        if (self.scores is None) != bool(self.failure):
            raise ValueError(f"scores {self.scores}, failure {self.failure!r}: give exactly one of the two")
        if self.scores is not None and len(self.scores) != len(self.permutation):
            raise ValueError(f"scores {self.scores}: give one for each of {len(self.permutation)} responses")
        if self.expected is not None and (self.scores is None or len(self.expected) != len(self.scores)):
            raise ValueError(f"expected scores {self.expected} beside scores {self.scores}: give one for each of them")
        if self.meta is not None and isnan(self.meta):
            raise ValueError("meta is NaN, which has no rank: look for NaN in the meta-RM's weights")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A judged preference of n = len(lengths) responses."""

    id: str
    """Id of the preference."""
    subset: str
    """The row of the table that it counts in, beside `overall`."""
    label: int
    """n >= 2: index of the best response; n = 1: 1 right, 0 wrong."""
    lengths: tuple[int, ...]
    """Characters of each response."""
    greedy: Sample | None
    """The judgement at temperature 0, if there is one."""
    opposite: Sample | None = None
    """The judgement at temperature 0 of the responses in the opposite order, if there is one."""
    votes: tuple[Sample, ...]
    """The K judgements sampled for voting, in the order in which they were asked for; may be empty."""

    def __post_init__(self) -> None:
        n = len(self.lengths)
        if not n or not 0 <= self.label < max(2, n):
            raise ValueError(f"item {self.id!r}: label {self.label} is not in 0..{max(2, n) - 1} for {n} responses")
        if any(len(sample.permutation) != n for sample in (*self.at_zero, *self.votes)):
            raise ValueError(f"item {self.id!r}: a judgement is of another number of responses than {n}")
        if self.opposite and (not self.greedy or self.opposite.permutation != self.greedy.permutation[::-1]):
            raise ValueError(f"item {self.id!r}: the opposite judgement is not of the greedy one's order turned round")

    @property
    def at_zero(self) -> tuple[Sample, ...]:
        """The judgements at temperature 0: none, one, or one in each of two opposite orders."""
        return tuple(sample for sample in (self.greedy, self.opposite) if sample)
