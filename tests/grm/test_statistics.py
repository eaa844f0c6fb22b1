"""Figures and their intervals against known cases."""

import random
from collections.abc import Sequence

import pytest
from sklearn.metrics import roc_auc_score

from grm.statistics import Figure, area_figure, mean_figure


def area(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    return float(roc_auc_score(right, scores)) if len(set(right)) == 2 else None


def drawn(draws: Sequence[Sequence[float]], right: Sequence[bool], resamples: int = 50) -> Figure | None:
    return area_figure(draws, right, area=area, resamples=resamples, rng=random.Random(0))


def test_a_mean() -> None:
    figure = mean_figure([1.0] * 30 + [0.0] * 70, resamples=1000, rng=random.Random(0))
    assert (figure.value, figure.rows) == (0.3, 100)
    assert (figure.low, figure.high) == (pytest.approx(0.3 - 0.09, abs=0.015), pytest.approx(0.3 + 0.09, abs=0.015))


def test_an_area_is_averaged_over_the_draws() -> None:
    # The first draw ranks both pairs rightly, the second ties one pair and loses the other.
    figure = drawn([[9.0, 2.0, 3.0], [4.0, 4.0, 6.0]], [True, False, False])
    assert figure is not None
    assert (figure.value, figure.rows) == ((1.0 + 0.25) / 2, 3)
    assert figure.low <= figure.value <= figure.high


def test_a_perfect_order_has_no_width() -> None:
    assert drawn([[9.0, 8.0, 2.0]], [True, True, False]) == Figure(value=1.0, low=1.0, high=1.0, rows=3)


def test_the_interval_of_an_area() -> None:
    source = random.Random(3)
    right = [index < 100 for index in range(200)]
    scores = [source.gauss(1.0 if is_right else 0.0, 1.0) for is_right in right]
    figure = drawn([scores], right, resamples=200)
    assert figure is not None
    # Hanley and McNeil's standard error of an AUC of 0.76 from 100 and 100 is 0.034.
    assert figure.value == pytest.approx(0.76, abs=0.1)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * 0.034, rel=0.3)


def test_a_resample_without_both_classes_is_drawn_again() -> None:
    figure = drawn([[9.0, 2.0]], [True, False])  # half of the resamples are of one class
    assert figure == Figure(value=1.0, low=1.0, high=1.0, rows=2)


@pytest.mark.parametrize("right", [[True, True], [False, False], []])
def test_no_area_without_both_classes(right: list[bool]) -> None:
    assert drawn([[1.0] * len(right)], right) is None
    assert drawn([], right) is None
