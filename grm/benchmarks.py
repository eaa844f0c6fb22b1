"""From judged preferences to a table: accuracies, ROC-AUC, and the baselines to compare with. Pure functions.

n >= 2, over preferences; accuracies are 0..1, a tie for the best is split among the tied unless the name says otherwise,
an unparsable judgement is wrong:
    greedy, greedy_ties_lost      of the greedy judgement; in the second a tie is wrong
    tie_rate                      of the parsed greedy judgements, those with more than one best
    position_i                    `greedy` where the best response was shown in place i, from 1
    vote@k, vote@k_ties_lost      expected accuracy of k votes out of the K >= k that were sampled (`expected_credit`)
    guided@k                      of the k // 2 of them that the meta-RM chooses, if it scored every parsed vote
    majority@k                    where each judgement votes for its best response only
    chance, longest, shortest     of judges without a model (`grm.baselines`)
n = 1, where the label is right or wrong, ROC-AUC of the score 1..10; an unparsable judgement scores MIDDLE:
    auc_greedy, auc_vote@k, auc_guided@k
any n:
    parse_rate, vote_parse_rate   parsed share of the greedy judgements, and of the votes
    tokens, vote_tokens           mean length of a greedy judgement, and of a vote

There is no average@k: the mean of the parsed votes has the same best responses as their sum. For n = 1 the sum would mislead,
as an unparsable vote lowers it. There, k votes score the mean of the parsed ones, and MIDDLE if none parses. If all parse,
this is their sum but for the factor k, which does not change an AUC.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from grm import baselines
from grm.statistics import Figure, area_figure, mean_figure
from grm.voting import (
    Credit,
    Rule,
    Scores,
    average,
    best,
    credit,
    expected_credit,
    guided,
    guided_average,
    majority,
    outcomes,
    unguided,
    vote,
)

__all__ = ["MIDDLE", "OVERALL", "Figure", "Item", "Sample", "TableRow", "table"]

OVERALL = "overall"
MIDDLE = 5.5  # of the scores 1..10: neither right nor wrong
MOST_AREA_DRAWS = 20  # one draw averages over all preferences already


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
    """The meta-RM's belief that it is right, on any scale; None if there is no meta score."""

    def __post_init__(self) -> None:
        if sorted(self.permutation) != list(range(len(self.permutation))):
            raise ValueError(f"permutation {self.permutation}: give the index of each response once")
        if (self.scores is None) != bool(self.failure):
            raise ValueError(f"scores {self.scores}, failure {self.failure!r}: give exactly one of the two")
        if self.scores is not None and len(self.scores) != len(self.permutation):
            raise ValueError(f"scores {self.scores}: give one for each of {len(self.permutation)} responses")
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
    votes: tuple[Sample, ...]
    """The K judgements sampled for voting; may be empty."""

    def __post_init__(self) -> None:
        n = len(self.lengths)
        if not n or not 0 <= self.label < max(2, n):
            raise ValueError(f"item {self.id!r}: label {self.label} is not in 0..{max(2, n) - 1} for {n} responses")
        samples = (*self.votes, self.greedy) if self.greedy else self.votes
        if any(len(sample.permutation) != n for sample in samples):
            raise ValueError(f"item {self.id!r}: a judgement is of another number of responses than {n}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """The figures of a subset."""

    subset: str
    """Name of the subset, or `overall`."""
    rows: int
    """Number of its preferences; a figure may be over fewer of them."""
    figures: Mapping[str, Figure]
    """By the names at the head of this file; figures that were not measured are absent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """How to measure."""

    ks: tuple[int, ...]
    """The k to report, ascending, none above K."""
    guided: bool
    """Whether the meta-RM scored every parsed vote, so that guided@k is over the same items as vote@k."""
    seed: int
    """Seed of all draws."""
    draws: int
    """Random subsets of k votes per preference."""
    resamples: int
    """Resamples of the preferences for the intervals."""

    def rng(self, *names: object) -> random.Random:
        """Return the generator of these names: rules compared at one k draw the same votes, figures the same resamples."""
        return random.Random(":".join(str(name) for name in (self.seed, *names)))


def table(
    items: Sequence[Item], *, ks: Sequence[int], seed: int = 0, draws: int = 100, resamples: int = 1000
) -> list[TableRow]:
    """Return the table of judged preferences. The same arguments give the same table.

    Args:
        items: At least one; all that have votes have the same number K of them.
        ks: Numbers of votes to report; those above K are left out.
        seed: Seed of all draws.
        draws: Random subsets of k votes per preference (`expected_credit`).
        resamples: Resamples of the preferences for the intervals.

    Returns:
        One row per subset, by name, if there are several; then the row `overall`, in which each preference counts the same.
    """
    _check(items, ks)
    most = max(len(item.votes) for item in items)
    meta = [sample.meta for item in items for sample in item.votes if sample.scores is not None]
    plan = _Plan(
        ks=tuple(k for k in sorted(set(ks)) if k <= most),
        guided=bool(meta) and None not in meta,
        seed=seed,
        draws=draws,
        resamples=resamples,
    )
    measured = [_measure(item, plan) for item in items]
    names = sorted({item.subset for item in items})
    return [_row(name, items, measured, plan) for name in (*(names if len(names) > 1 else ()), OVERALL)]


def _check(items: Sequence[Item], ks: Sequence[int]) -> None:
    if not items:
        raise ValueError("no judged preferences to make a table of")
    if any(k < 1 for k in ks):
        raise ValueError(f"ks {list(ks)}: give numbers of votes, 1 or more")
    counts = sorted({len(item.votes) for item in items if item.votes})
    if len(counts) > 1:
        raise ValueError(f"votes: some items have {counts[0]}, others {counts[-1]}: give all that are voted on the same K")
    if any(item.subset == OVERALL for item in items):
        raise ValueError(f"subset {OVERALL!r} is the name of the last row: rename the subset")


def _row(name: str, items: Sequence[Item], measured: Sequence[Mapping[str, float]], plan: _Plan) -> TableRow:
    inside = [i for i, item in enumerate(items) if name in (OVERALL, item.subset)]
    single = [items[i] for i in inside if len(items[i].lengths) == 1]
    figures = _means([measured[i] for i in inside], plan) | _areas(single, plan)
    return TableRow(subset=name, rows=len(inside), figures=figures)


def _means(measured: Sequence[Mapping[str, float]], plan: _Plan) -> dict[str, Figure]:
    """Return the mean of each value over the preferences that have it."""
    columns: dict[str, list[float]] = {}
    for values in measured:
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return {name: mean_figure(columns[name], resamples=plan.resamples, rng=plan.rng()) for name in sorted(columns, key=_place)}


def _place(name: str) -> int:
    """Return the key that sorts the figures of shown places behind the others, which keep their order."""
    return int(name.removeprefix("position_")) if name.startswith("position_") else 0


def _measure(item: Item, plan: _Plan) -> dict[str, float]:
    """Return the values of one preference whose means are figures; an AUC is no mean."""
    values: dict[str, float] = {}
    if item.greedy:
        values |= {"parse_rate": float(item.greedy.scores is not None), "tokens": float(item.greedy.tokens)}
    if item.votes:
        values["vote_parse_rate"] = sum(sample.scores is not None for sample in item.votes) / len(item.votes)
        values["vote_tokens"] = sum(sample.tokens for sample in item.votes) / len(item.votes)
    if len(item.lengths) == 1:
        return values
    values["chance"] = baselines.chance(len(item.lengths))
    values["longest"] = baselines.longest(item.lengths, item.label)
    values["shortest"] = baselines.shortest(item.lengths, item.label)
    if item.greedy:
        values |= _greedy(item.greedy, item.label)
    if item.votes:
        values |= _voted(item, plan)
    return values


def _greedy(sample: Sample, label: int) -> dict[str, float]:
    earned = credit(sample.scores, label)
    values = {"greedy": earned.split, "greedy_ties_lost": earned.lost}
    if sample.scores is not None:
        values["tie_rate"] = float(len(best(sample.scores)) > 1)
    return values | {f"position_{1 + sample.permutation.index(label)}": earned.split}


def _voted(item: Item, plan: _Plan) -> dict[str, float]:
    judgements, meta = _votes(item)

    def expected(rule: Rule, k: int) -> Credit:
        return expected_credit(judgements, meta, item.label, k, rule, plan.draws, plan.rng(item.id, k))

    values: dict[str, float] = {}
    for k in plan.ks:
        summed = expected(unguided(vote), k)
        values |= {f"vote@{k}": summed.split, f"vote@{k}_ties_lost": summed.lost}
        if plan.guided:
            values[f"guided@{k}"] = expected(guided, k).split
        values[f"majority@{k}"] = expected(unguided(majority), k).split
    return values


def _votes(item: Item) -> tuple[list[Scores | None], list[float]]:
    """Return the K judgements and their meta scores. A missing meta score is 0, which no rule that `_Plan` allows reads."""
    return [sample.scores for sample in item.votes], [sample.meta or 0.0 for sample in item.votes]


def _areas(items: Sequence[Item], plan: _Plan) -> dict[str, Figure]:
    """Return the AUC figures of single responses: none if all of them are right, or all are wrong."""

    def area(draws: Sequence[Sequence[float]], judged: Sequence[Item]) -> Figure | None:
        right = [item.label == 1 for item in judged]
        return area_figure(draws, right, resamples=plan.resamples, rng=plan.rng())

    voted = [item for item in items if item.votes]
    greedy = [_single(item.greedy.scores) for item in items if item.greedy]
    figures = {"auc_greedy": area([greedy], [item for item in items if item.greedy])}
    for k in plan.ks:
        figures[f"auc_vote@{k}"] = area(_drawn(voted, k, unguided(average), plan), voted)
        if plan.guided:
            figures[f"auc_guided@{k}"] = area(_drawn(voted, k, guided_average, plan), voted)
    return {name: figure for name, figure in figures.items() if figure}


def _drawn(items: Sequence[Item], k: int, rule: Rule, plan: _Plan) -> list[list[float]]:
    """Return, for each draw of k votes, the score of each single response."""
    draws = min(plan.draws, MOST_AREA_DRAWS)
    scores = [[_single(drawn) for drawn in outcomes(*_votes(item), k, rule, draws, plan.rng(item.id, k))] for item in items]
    return [list(draw) for draw in zip(*scores, strict=True)]


def _single(totals: Sequence[float] | None) -> float:
    return MIDDLE if totals is None else totals[0]
