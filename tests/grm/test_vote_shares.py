"""Vote shares as probabilities: Brier score and calibration error, by hand."""

import random

import pytest

from grm.vote_shares import brier, calibration_error, calibration_figure, shares


def test_shares_of_votes() -> None:
    assert shares([(9, 2), (9, 2), (1, 4), (5, 5)]) == (2.5 / 4, 1.5 / 4)
    assert shares([None, (1, 4)]) == (0.0, 1.0)
    assert shares([None]) is None


def test_the_brier_score_of_two_is_that_of_a_yes_or_no() -> None:
    assert brier((0.7, 0.3), 0) == pytest.approx(0.3**2)
    assert brier((0.7, 0.3), 1) == pytest.approx(0.7**2)
    assert brier((0.25,) * 4, 2) == pytest.approx((1 - 1 / 4) / 2)
    assert (brier((0, 1, 0), 1), brier((0, 1, 0), 0)) == (0.0, 1.0)


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    """Three rows at 0.95 of which two are right, one at 0.55 that is right."""
    error = calibration_error([0.95, 0.95, 0.95, 0.55], [1, 1, 0, 1])
    assert error == pytest.approx((3 * abs(2 / 3 - 0.95) + abs(1 - 0.55)) / 4)
    assert calibration_error([1.0, 0.5, 0.5], [1, 1, 0]) == 0.0
    assert calibration_error([0.7, 0.71], [1, 0.4]) == pytest.approx(abs(1.4 - 1.41) / 2), "0.7 is in the bin of 0.7"


def test_a_judge_that_is_as_sure_as_it_is_right_has_an_interval_at_zero() -> None:
    rows = [((0.8, 0.2), int(i % 5 == 0)) for i in range(200)]
    figure = calibration_figure(rows, [str(i) for i in range(200)], resamples=100, rng=random.Random(0))
    assert (figure.value, figure.rows) == (pytest.approx(0.0), 200)
    assert figure.low < 0.01
    assert figure.high < 0.08
    sure = calibration_figure([((1.0, 0.0), i % 2) for i in range(100)], list(range(100)), resamples=50, rng=random.Random(0))
    assert sure.value == 0.5
    assert 0.35 < sure.low < 0.5 < sure.high < 0.65
