"""From judged preferences to a table: accuracies, ROC-AUC, and the baselines that they stand beside. Pure functions.

n >= 2, over preferences; accuracies are 0..1, a tie for the best is split among the tied unless the name says otherwise,
an unparsable judgement is wrong:
    greedy, greedy_ties_lost      of the greedy judgement; in the second a tie is wrong
    tie_rate                      of the parsed greedy judgements, those with more than one best
    position_i                    `greedy` where the best response was shown in place i, from 1
    vote@k, vote@k_ties_lost      expected accuracy of k votes out of the K >= k that were sampled (`expected_credit`)
    guided@k                      of the k // 2 of them that the meta-RM chooses, if it scored every parsed vote
    majority@k                    where each judgement votes for its best response only
    chance, longest, shortest     of judges without a model
n = 1, where the label is right or wrong, ROC-AUC of the score 1..10; an unparsable judgement scores MIDDLE:
    auc_greedy, auc_vote@k, auc_guided@k
any n:
    parse_rate, vote_parse_rate   parsed share of the greedy judgements, and of the votes
    tokens, vote_tokens           mean length of a greedy judgement, and of a vote

There is no average@k: the mean of the parsed votes has the same best responses as their sum. For n = 1 it is the sum that
would mislead, as an unparsable vote lowers it: k votes score k times the mean of the parsed ones, which is their sum where
all parse, and MIDDLE where none does. The factor k does not change an AUC, so it is left out.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from grm.statistics import Area, Figure, area_figure, mean_figure
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
MIDDLE = 5.5  # of the scale 1..10: says neither right nor wrong
MOST_AREA_DRAWS = 20  # one draw averages over all preferences already


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One judgement of a preference.

    scores: in the preference's own order; None where unparsable, and then `failure` says why.
    permutation: own index of the response in each shown place. tokens: of the completion.
    meta: how far the meta-RM believes that it is right, on any scale; None where it was not asked.
    """

    scores: Scores | None
    permutation: tuple[int, ...]
    tokens: int
    failure: str = ""
    meta: float | None = None

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
    """A judged preference of n = len(lengths) responses.

    label: n >= 2: index of the best response; n = 1: 1 right, 0 wrong. lengths: characters of each response.
    greedy: the judgement at temperature 0, or None. votes: the K judgements sampled for voting, or none.
    """

    id: str
    subset: str
    label: int
    lengths: tuple[int, ...]
    greedy: Sample | None
    votes: tuple[Sample, ...]

    def __post_init__(self) -> None:
        n = len(self.lengths)
        if not n or not 0 <= self.label < max(2, n):
            raise ValueError(f"item {self.id!r}: label {self.label} is not in 0..{max(2, n) - 1} for {n} responses")
        judged = (*self.votes, self.greedy) if self.greedy else self.votes
        if any(len(sample.permutation) != n for sample in judged):
            raise ValueError(f"item {self.id!r}: a judgement is of another number of responses than {n}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """The figures of a subset, by the names at the head of this file; what was not measured is absent.

    rows: all its preferences; a figure may be over fewer of them.
    """

    subset: str
    rows: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """How to measure. guided: the meta-RM scored every parsed vote, so guided@k is over the same items as vote@k."""

    ks: tuple[int, ...]
    guided: bool
    area: Area
    seed: int
    draws: int
    resamples: int

    def rng(self, *names: object) -> random.Random:
        """Chance for what is named: rules compared at one k draw the same votes, and figures the same resamples."""
        return random.Random(":".join(str(name) for name in (self.seed, *names)))


def table(
    items: Sequence[Item], *, ks: Sequence[int], area: Area, seed: int = 0, draws: int = 100, resamples: int = 1000
) -> list[TableRow]:
    """One row a subset, by name, if there are several; then the row "overall", in which each preference counts the same.

    ks: the k of the votes; those above K are left out. draws: random subsets of k votes a preference (`expected_credit`).
    resamples: of the preferences, for the intervals. The same arguments give the same table.
    """
    _check(items, ks)
    most = max(len(item.votes) for item in items)
    meta = [sample.meta for item in items for sample in item.votes if sample.scores is not None]
    plan = _Plan(
        ks=tuple(k for k in sorted(set(ks)) if k <= most),
        guided=bool(meta) and None not in meta,
        area=area,
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
    """The mean of each value over the preferences that have it."""
    columns: dict[str, list[float]] = {}
    for values in measured:
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return {name: mean_figure(columns[name], resamples=plan.resamples, rng=plan.rng()) for name in sorted(columns, key=_place)}


def _place(name: str) -> int:
    """Sorts the places shown behind the other figures, which keep their order."""
    return int(name.removeprefix("position_")) if name.startswith("position_") else 0


def _measure(item: Item, plan: _Plan) -> dict[str, float]:
    """The values of one preference whose means are figures; an AUC is no mean."""
    values: dict[str, float] = {}
    if item.greedy:
        values |= {"parse_rate": float(item.greedy.scores is not None), "tokens": float(item.greedy.tokens)}
    if item.votes:
        values["vote_parse_rate"] = sum(sample.scores is not None for sample in item.votes) / len(item.votes)
        values["vote_tokens"] = sum(sample.tokens for sample in item.votes) / len(item.votes)
    if len(item.lengths) == 1:
        return values
    values["chance"] = 1 / len(item.lengths)
    values["longest"] = credit(item.lengths, item.label).split
    values["shortest"] = credit([-length for length in item.lengths], item.label).split
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
    """The K judgements and their meta scores. A missing one is 0 here, and no rule that `_Plan` allows looks at it."""
    return [sample.scores for sample in item.votes], [sample.meta or 0.0 for sample in item.votes]


def _areas(items: Sequence[Item], plan: _Plan) -> dict[str, Figure]:
    """The AUC figures of single responses; absent where all of them are right or all are wrong."""

    def area(draws: Sequence[Sequence[float]], judged: Sequence[Item]) -> Figure | None:
        right = [item.label == 1 for item in judged]
        return area_figure(draws, right, area=plan.area, resamples=plan.resamples, rng=plan.rng())

    voted = [item for item in items if item.votes]
    greedy = [_single(item.greedy.scores) for item in items if item.greedy]
    figures = {"auc_greedy": area([greedy], [item for item in items if item.greedy])}
    for k in plan.ks:
        figures[f"auc_vote@{k}"] = area(_drawn(voted, k, unguided(average), plan), voted)
        if plan.guided:
            figures[f"auc_guided@{k}"] = area(_drawn(voted, k, guided_average, plan), voted)
    return {name: figure for name, figure in figures.items() if figure}


def _drawn(items: Sequence[Item], k: int, rule: Rule, plan: _Plan) -> list[list[float]]:
    """In each draw of k votes, the score of each single response."""
    draws = min(plan.draws, MOST_AREA_DRAWS)
    scores = [[_single(drawn) for drawn in outcomes(*_votes(item), k, rule, draws, plan.rng(item.id, k))] for item in items]
    return [list(draw) for draw in zip(*scores, strict=True)]


def _single(totals: Sequence[float] | None) -> float:
    return MIDDLE if totals is None else totals[0]
