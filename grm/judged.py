"""Judged preferences: what a judge said about each, for the tables of `grm.benchmarks`."""

from dataclasses import dataclass
from math import isnan

from grm.voting import Scores

NO_ANSWER = "no_answer"  # the failure of a judgement that a judge was asked for and did not give


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One judgement of a preference."""

    scores: Scores | None
    """Scores in the preference's own order; None if unparsable."""
    permutation: tuple[int, ...]
    """permutation[shown position] = index of the response in the preference's own order."""
    tokens: int
    """Length of the completion; 0 where nobody counted it."""
    failure: str = ""
    """Why it is unparsable, "" if it is not."""
    meta: float | None = None
    """The meta-RM's belief that it is right, as a logit z; None if there is no meta score."""
    strict: bool = True
    """Whether the strict parser read its scores, and not the lenient one alone."""
    expected: tuple[float, ...] | None = None
    """Expected scores (`grm.expected_scores`) in the preference's own order; None if nobody asked for them."""
    alone: bool = False
    """Whether each response was scored by itself, as a scalar reward model does: none was shown before another."""

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
    group: str = ""
    """What items of one prompt share: they are resampled together. "": the item stands alone."""
    greedy: Sample | None
    """The judgement at temperature 0, if there is one."""
    opposite: Sample | None = None
    """The judgement at temperature 0 of the responses in the opposite order, if there is one."""
    votes: tuple[Sample, ...]
    """The K judgements sampled for voting, in the order in which they were asked for; may be empty."""
    spared: int = 0
    """Of the K votes the last ones, which were not asked for, as they could not change the best (`grm.voting.votes_due`)."""

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
