"""Figures: a mean or an area over preferences, with its 95 % bootstrap interval over them. Pure functions."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum

from grm.voting import bootstrap, percentiles

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
