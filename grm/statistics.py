"""Statistics over preferences: ROC-AUC, intervals, and figures, which are values with a 95 % interval. Pure functions.

auc                         how well scores separate right from wrong
auc_within                  the same within groups: of judgements of one preference
bootstrap, percentiles      interval of a mean, or of any estimates
wilson                      interval of a share
mean_figure, area_figure    a mean or an AUC over preferences, with its bootstrap interval
share_figure                the same for values from 0 to 1, with Wilson's interval where resampling has no width
"""

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from math import fsum, sqrt

MOST_AREA_RESAMPLES = 200  # each sorts all preferences once per draw


def auc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Return the area under the ROC curve: P(score of a right one > score of a wrong one), where a tie counts one half.

    In the rank-sum form, tied scores share their mean rank:
        AUC = (sum of the ranks of the right ones - n1 (n1 + 1) / 2) / (n1 * n0).

    Returns:
        A number in [0, 1], or None if all are right or all are wrong, so that there is no pair to compare.
    """
    pairs = sorted(zip(scores, correct, strict=True))
    right = sum(1 for _, is_right in pairs if is_right)
    wrong = len(pairs) - right
    if not right or not wrong:
        return None
    rank_sum, before = 0.0, 0
    for _, tied in groupby(pairs, key=lambda pair: pair[0]):
        members = [is_right for _, is_right in tied]
        rank_sum += sum(members) * (before + (len(members) + 1) / 2)
        before += len(members)
    return (rank_sum - right * (right + 1) / 2) / (right * wrong)


def auc_within(scores: Sequence[float], correct: Sequence[bool], groups: Sequence[Hashable]) -> float | None:
    """Return P(score of a right one > score of a wrong one of the same group), where a tie counts one half.

    `auc` over all is above chance as soon as the scores tell easy groups from hard ones, which helps no choice within a group.
    Every pair weighs alike: AUC_within = sum over groups of (pairs in order + ties / 2) / sum over groups of n1 * n0.

    Args:
        scores: One number each.
        correct: Whether each is right.
        groups: What each belongs to.

    Returns:
        A number in [0, 1], or None if no group has both right and wrong ones.

    >>> auc_within([0.9, 0.1, 0.2, 0.8, 0.5], [True, False, True, False, False], "aabbb")  # 1 of 1 and 0 of 2 pairs
    0.3333333333333333
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    in_order, pairs = 0.0, 0
    for indices in members.values():
        verdicts = [correct[index] for index in indices]
        area, between = auc([scores[index] for index in indices], verdicts), sum(verdicts) * verdicts.count(False)
        if area is not None:
            in_order, pairs = in_order + area * between, pairs + between
    return in_order / pairs if pairs else None


def bootstrap(
    values: Sequence[float],
    *,
    resamples: int,
    rng: random.Random,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values`, one value per preference.

    Preferences of one group are not independent (nine pairs of one prompt are one question), so whole groups are drawn:
        estimate = sum of the drawn groups' sums / sum of their sizes.

    Args:
        values: At least one.
        resamples: Number of them, at least 1.
        rng: Draws them.
        level: Of the interval.
        groups: What each value belongs to; None: each stands alone.
    """
    if not values or resamples < 1:
        raise ValueError(f"{len(values)} values, {resamples} resamples: give at least one of each")
    members = _members(groups, len(values))
    if len(members) == len(values):
        count = len(values)
        return percentiles([fsum(rng.choices(values, k=count)) / count for _ in range(resamples)], level=level)
    sums = [(fsum(values[i] for i in indices), len(indices)) for indices in members]
    estimates = []
    for _ in range(resamples):
        drawn = rng.choices(sums, k=len(sums))
        estimates.append(fsum(total for total, _ in drawn) / sum(size for _, size in drawn))
    return percentiles(estimates, level=level)


def _members(groups: Sequence[Hashable] | None, count: int) -> list[list[int]]:
    """Return the indices of each group, in order."""
    members: dict[Hashable, list[int]] = {}
    for index in range(count):
        members.setdefault(index if groups is None else groups[index], []).append(index)
    return list(members.values())


def resampled(groups: Sequence[Hashable], *, resamples: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield the indices of so many resamples, in which whole groups are drawn with replacement."""
    members = _members(groups, len(groups))
    for _ in range(resamples):
        yield list(chain.from_iterable(rng.choices(members, k=len(members))))


def percentiles(estimates: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the estimates that is left after cutting off (1 - level)/2 of them at either end."""
    if not estimates or not 0 < level < 1:
        raise ValueError(f"{len(estimates)} estimates at level {level}: give at least one, and a level inside 0..1")
    cut = int(len(estimates) * (1 - level) / 2 + 1e-9)  # 1000 * (1 - 0.9) / 2 is 49.999... in floats
    ordered = sorted(estimates)
    return ordered[cut], ordered[-1 - cut]


def wilson(share: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's score interval of a share observed in `count` trials.

    >>> [round(edge, 3) for edge in wilson(0.9, 100)]
    [0.826, 0.945]
    """
    centre, whole = share + z * z / (2 * count), 1 + z * z / count
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - spread) / whole, (centre + spread) / whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A value over preferences, with its 95 % interval."""

    value: float
    """The estimate."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    rows: int
    """Number of preferences."""


def mean_figure(
    values: Sequence[float], *, resamples: int, rng: random.Random, groups: Sequence[Hashable] | None = None
) -> Figure:
    """Return the mean of at least one value, one per preference; `groups` as in `bootstrap`."""
    low, high = bootstrap(values, resamples=resamples, rng=rng, groups=groups)
    return Figure(value=fsum(values) / len(values), low=low, high=high, rows=len(values))


def share_figure(
    values: Sequence[float], *, resamples: int, rng: random.Random, groups: Sequence[Hashable] | None = None
) -> Figure:
    """Return the mean of values from 0 to 1, as `mean_figure`, with the interval of `with_width`.

    >>> figure = share_figure([1.0] * 10, resamples=9, rng=random.Random(0))
    >>> round(figure.low, 3), figure.high
    (0.722, 1.0)
    """
    figure = mean_figure(values, resamples=resamples, rng=rng, groups=groups)
    trials = len(values) if groups is None else len(set(groups))
    low, high = with_width(figure.value, (figure.low, figure.high), trials)
    return replace(figure, low=low, high=high)


def with_width(share: float, interval: tuple[float, float], trials: int) -> tuple[float, float]:
    """Return the bootstrap interval of a share, or Wilson's where resampling cannot tell how sure it is.

    From values that are all 0 or all 1, and from a single group, every resample is the same: its interval has no width, though
    ten right of ten are no proof of more than 0.72.

    Args:
        share: The estimate, 0..1.
        interval: Of the bootstrap.
        trials: Number of the groups that were drawn.
    """
    if share not in (0.0, 1.0) and trials > 1:
        return interval
    low, high = wilson(share, trials)
    return max(0.0, low), min(1.0, high)


def area_figure(
    draws: Sequence[Sequence[float]],
    right: Sequence[bool],
    *,
    resamples: int,
    rng: random.Random,
    groups: Sequence[Hashable] | None = None,
) -> Figure | None:
    """Return the ROC-AUC of scores against right or wrong, averaged over draws of the scores.

    Args:
        draws: In each draw, one score per preference.
        right: Whether each preference is a right one.
        resamples: Resamples of the preferences for the interval, MOST_AREA_RESAMPLES at most. A resample without a right and
            a wrong preference is drawn again.
        rng: Draws the resamples.
        groups: As in `bootstrap`.

    Returns:
        None if all preferences are right, or all are wrong.
    """

    def mean(rows: Sequence[int]) -> float | None:
        areas = []
        for scores in draws:
            area = auc([scores[row] for row in rows], [right[row] for row in rows])
            if area is None:
                return None
            areas.append(area)
        return fsum(areas) / len(areas)

    everything = range(len(right))
    value = mean(everything) if len(set(right)) == 2 else None
    if value is None:
        return None
    estimates: list[float] = []
    members = _members(groups, len(right))
    while len(estimates) < min(resamples, MOST_AREA_RESAMPLES):
        estimate = mean(list(chain.from_iterable(rng.choices(members, k=len(members)))))
        if estimate is not None:
            estimates.append(estimate)
    low, high = percentiles(estimates)
    return Figure(value=value, low=low, high=high, rows=len(right))
