"""How far the shares of k votes can be taken as probabilities: Brier score and expected calibration error. Pure functions.

k votes ─▶ each parsed one gives 1 to its best response, in equal parts to the tied ─▶ shares p_i, which sum to 1
"""

from collections.abc import Hashable, Sequence
from math import fsum
from random import Random

from grm.statistics import MOST_AREA_RESAMPLES, Figure, percentiles, resampled
from grm.voting import Scores, majority

BINS = 10  # of the confidence, 0..1


def shares(votes: Sequence[Scores | None]) -> tuple[float, ...] | None:
    """Return the share of the votes that each response won; None where none parsed.

    >>> shares([(9, 2), (3, 3), None, (8, 1)])
    (0.8333333333333334, 0.16666666666666666)
    """
    totals = majority(votes)
    return tuple(total / fsum(totals) for total in totals) if totals else None


def brier(probabilities: Sequence[float], label: int) -> float:
    """Return the Brier score, 0 (sure and right) to 1 (sure and wrong): half of sum_i (p_i - [i = label])^2.

    For two responses this is (1 - p_label)^2, the usual score of a yes or no. Shares of 1/n earn (1 - 1/n) / 2.
    """
    return fsum((p - (i == label)) ** 2 for i, p in enumerate(probabilities)) / 2


def calibration_error(confidences: Sequence[float], right: Sequence[float]) -> float:
    """Return the expected calibration error, 0..1: sum over BINS equal bins of (rows in it / rows) |accuracy - confidence|.

    It is above 0 by chance, the more so the fewer rows there are.

    Args:
        confidences: Of each row, the largest share.
        right: Of each row, the credit of the responses with that share.
    """
    bins: dict[int, list[tuple[float, float]]] = {}
    for confidence, credit in zip(confidences, right, strict=True):
        bins.setdefault(min(BINS - 1, int(confidence * BINS)), []).append((confidence, credit))
    return fsum(abs(fsum(credit - confidence for confidence, credit in rows)) for rows in bins.values()) / len(confidences)


def calibration_figure(
    rows: Sequence[tuple[Sequence[float], int]], groups: Sequence[Hashable], *, resamples: int, rng: Random
) -> Figure:
    """Return the calibration error with its bootstrap interval, which lies a little high for few rows, as the error does.

    Args:
        rows: The shares of each preference and its label.
        groups: As in `bootstrap`.
        resamples: MOST_AREA_RESAMPLES at most.
        rng: Draws them.
    """
    confidences = [max(p) for p, _ in rows]
    right = [(p[label] == max(p)) / list(p).count(max(p)) for p, label in rows]
    estimates = []
    for drawn in resampled(groups, resamples=min(resamples, MOST_AREA_RESAMPLES), rng=rng):
        estimates.append(calibration_error([confidences[i] for i in drawn], [right[i] for i in drawn]))
    low, high = percentiles(estimates)
    return Figure(value=calibration_error(confidences, right), low=low, high=high, rows=len(rows))
