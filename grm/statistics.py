"""Figures: a mean or an area over preferences, with its 95 % bootstrap interval over them. Pure functions."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum

MOST_AREA_RESAMPLES = 200  # each sorts all preferences once a draw

# (scores, whether each is of a right one) -> area under the ROC curve; None where all are right or all are wrong
Area = Callable[[Sequence[float], Sequence[bool]], float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A value over `rows` preferences, and the interval low..high that holds it at 95 %."""

    value: float
    low: float
    high: float
    rows: int


def mean_figure(values: Sequence[float], *, resamples: int, rng: random.Random) -> Figure:
    """The mean of one value a preference; at least one."""
    low, high = bootstrap(values, resamples=resamples, rng=rng)
    return Figure(value=fsum(values) / len(values), low=low, high=high, rows=len(values))


def area_figure(
    draws: Sequence[Sequence[float]], right: Sequence[bool], *, area: Area, resamples: int, rng: random.Random
) -> Figure | None:
    """The ROC-AUC of scores against right or wrong, averaged over draws of the scores.

    draws: in each, one score a preference. The interval is of at most MOST_AREA_RESAMPLES resamples of preferences;
    one without a right and a wrong preference is drawn again. None where all the preferences are without one of the two.
    """

    def mean(rows: Sequence[int]) -> float | None:
        areas = []
        for scores in draws:
            found = area([scores[row] for row in rows], [right[row] for row in rows])
            if found is None:
                return None
            areas.append(found)
        return fsum(areas) / len(areas)

    everything = range(len(right))
    value = mean(everything) if len(set(right)) == 2 else None
    if value is None:
        return None
    estimates: list[float] = []
    while len(estimates) < min(resamples, MOST_AREA_RESAMPLES):
        estimate = mean(rng.choices(everything, k=len(right)))
        if estimate is not None:
            estimates.append(estimate)
    low, high = percentiles(estimates)
    return Figure(value=value, low=low, high=high, rows=len(right))


def bootstrap(values: Sequence[float], *, resamples: int, rng: random.Random, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values`, one value a preference."""
    if not values or resamples < 1:
        raise ValueError(f"{len(values)} values, {resamples} resamples: give at least one of each")
    count = len(values)
    return percentiles([fsum(rng.choices(values, k=count)) / count for _ in range(resamples)], level=level)


def percentiles(estimates: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """The interval that is left of the estimates when (1 - level)/2 of them are cut off at either end."""
    if not estimates or not 0 < level < 1:
        raise ValueError(f"{len(estimates)} estimates at level {level}: give at least one, and a level inside 0..1")
    cut = int(len(estimates) * (1 - level) / 2 + 1e-9)  # 1000 * (1 - 0.9) / 2 is 49.999... in floats
    ordered = sorted(estimates)
    return ordered[cut], ordered[-1 - cut]


def auc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Area under the ROC curve by ranks: P(score of a right one > score of a wrong one), ties count one half.

    The rank-sum form, with tied scores sharing their mean rank:
        AUC = (sum of the ranks of the right ones - n1 (n1 + 1) / 2) / (n1 * n0).

    Returns:
        A number in [0, 1], or None when all are right or all are wrong (no pair to compare).
    """
    pairs = sorted(zip(scores, correct, strict=True))
    right = sum(1 for _, is_right in pairs if is_right)
    wrong = len(pairs) - right
    if right == 0 or wrong == 0:
        return None
    rank_sum, before = 0.0, 0
    for _, tied in groupby(pairs, key=lambda pair: pair[0]):
        members = [is_right for _, is_right in tied]
        rank_sum += sum(members) * (before + (len(members) + 1) / 2)
        before += len(members)
    return (rank_sum - right * (right + 1) / 2) / (right * wrong)


def wilson(share: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share seen in `count` trials.

    >>> [round(edge, 3) for edge in wilson(0.9, 100)]
    [0.826, 0.945]
    """
    centre, whole = share + z * z / (2 * count), 1 + z * z / count
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - spread) / whole, (centre + spread) / whole
