"""Areas, intervals and figures against known cases."""

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.statistics import Figure, area_figure, auc, auc_within, bootstrap, mean_figure, percentiles, share_figure, wilson


def area_of(draws: Sequence[Sequence[float]], right: Sequence[bool], resamples: int = 50) -> Figure | None:
    return area_figure(draws, right, resamples=resamples, rng=random.Random(0))


def test_a_mean() -> None:
    figure = mean_figure([1.0] * 30 + [0.0] * 70, resamples=1000, rng=random.Random(0))
    assert (figure.value, figure.rows) == (0.3, 100)
    assert (figure.low, figure.high) == (pytest.approx(0.3 - 0.09, abs=0.015), pytest.approx(0.3 + 0.09, abs=0.015))


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.839, 1.0), (0.0, 0.0, 0.161)])
def test_twenty_of_twenty_are_no_certainty(value: float, low: float, high: float) -> None:
    """Every resample of them is the same. Wilson: 20 / (20 + 1.96^2) = 0.839."""
    figure = share_figure([value] * 20, resamples=50, rng=random.Random(0))
    assert (figure.value, figure.rows) == (value, 20)
    assert (figure.low, figure.high) == (pytest.approx(low, abs=0.0005), pytest.approx(high, abs=0.0005))


def test_preferences_of_one_prompt_are_one_trial() -> None:
    """6 right of 8, all of one prompt: Wilson of one trial is (0.75 + 1.92 -+ 1.96 sqrt(0.1875 + 0.96)) / 4.84."""
    figure = share_figure([1.0] * 6 + [0.0] * 2, resamples=50, rng=random.Random(0), groups=["q"] * 8)
    assert (figure.low, figure.high) == (pytest.approx(0.118, abs=0.001), pytest.approx(0.985, abs=0.001))


def test_other_shares_have_the_interval_of_a_mean() -> None:
    values = [1.0, 0.5, 0.0, 1.0]
    both = [each(values, resamples=50, rng=random.Random(0)) for each in (share_figure, mean_figure)]
    assert both[0] == both[1]


def test_an_area_is_averaged_over_the_draws() -> None:
    # The first draw ranks both pairs rightly, the second ties one pair and loses the other.
    figure = area_of([[9.0, 2.0, 3.0], [4.0, 4.0, 6.0]], [True, False, False])
    assert figure is not None
    assert (figure.value, figure.rows) == ((1.0 + 0.25) / 2, 3)
    assert figure.low <= figure.value <= figure.high


def test_a_perfect_order_has_no_width() -> None:
    assert area_of([[9.0, 8.0, 2.0]], [True, True, False]) == Figure(value=1.0, low=1.0, high=1.0, rows=3)


def test_the_interval_of_an_area() -> None:
    source = random.Random(3)
    right = [index < 100 for index in range(200)]
    scores = [source.gauss(1.0 if is_right else 0.0, 1.0) for is_right in right]
    figure = area_of([scores], right, resamples=200)
    assert figure is not None
    # Hanley and McNeil's standard error of an AUC of 0.76 from 100 and 100 is 0.034.
    assert figure.value == pytest.approx(0.76, abs=0.1)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * 0.034, rel=0.3)


def test_a_resample_without_both_classes_is_drawn_again() -> None:
    figure = area_of([[9.0, 2.0]], [True, False])  # half of the resamples are of one class
    assert figure == Figure(value=1.0, low=1.0, high=1.0, rows=2)


@pytest.mark.parametrize("right", [[True, True], [False, False], []])
def test_no_area_without_both_classes(right: list[bool]) -> None:
    assert area_of([[1.0] * len(right)], right) is None
    assert area_of([], right) is None


def test_an_area_with_a_tie_by_hand() -> None:
    # pairs (right, wrong): (3, 1) won, (3, 2) won, (2, 1) won, (2, 2) tied
    assert auc([3, 2, 1, 2], [True, True, False, False]) == 3.5 / 4


@pytest.mark.parametrize("correct", [[True, True], [False, False], []])
def test_no_area_of_one_class_alone(correct: list[bool]) -> None:
    assert auc([0.5] * len(correct), correct) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_an_area_is_the_share_of_pairs_that_are_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, correct = [score / 2 for score, _ in rows], [right for _, right in rows]
    pairs = [(one, other) for one, right in rows if right for other, right in rows if not right]  # (right, wrong)
    in_order = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs)
    if pairs:
        assert auc(scores, correct) == pytest.approx(in_order / len(pairs), abs=1e-12)


def test_an_area_within_groups_by_hand() -> None:
    scores, correct = [0.9, 0.1, 0.2, 0.8, 0.5, 0.2], [True, False, True, False, False, False]
    assert auc_within(scores, correct, "aabbbb") == (1 + 0.5) / (1 + 3), "a: 1 of 1 pair; b: 2 lost, 1 tied"
    assert auc(scores, correct) == (4 + 1.5) / 8, "over all, 0.9 beats the wrong ones of b as well"


def test_scores_that_only_tell_easy_groups_from_hard_ones_are_at_chance_within_them() -> None:
    scores, correct = [0.9] * 4 + [0.1] * 4, [True, True, True, False, True, False, False, False]
    assert auc(scores, correct) == 0.75
    assert auc_within(scores, correct, "aaaabbbb") == 0.5


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from("abc")), max_size=40))
def test_an_area_within_groups_is_the_share_of_their_pairs_that_are_in_order(rows: list[tuple[int, bool, str]]) -> None:
    pairs = [(r[0], w[0]) for r in rows if r[1] for w in rows if not w[1] and r[2] == w[2]]  # (right, wrong)
    in_order = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs)
    area = auc_within([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    assert area == (pytest.approx(in_order / len(pairs), abs=1e-12) if pairs else None)


def test_bootstrap_of_a_share() -> None:
    values = [1.0] * 80 + [0.0] * 20
    low, high = bootstrap(values, resamples=4000, rng=random.Random(0))
    # The mean of 100 draws has standard deviation sqrt(0.8 * 0.2 / 100) = 0.04; the binomial's quantiles are 0.72, 0.87.
    assert (low, high) == (pytest.approx(0.72, abs=0.011), pytest.approx(0.87, abs=0.011))
    narrow = bootstrap(values, resamples=4000, rng=random.Random(0), level=0.5)
    assert low < narrow[0] < 0.8 < narrow[1] < high
    assert bootstrap(values, resamples=4000, rng=random.Random(0)) == (low, high)


def test_bootstrap_of_equal_values_is_their_value() -> None:
    assert bootstrap([0.1] * 7, resamples=50, rng=random.Random(0)) == (0.1, 0.1)
    assert bootstrap([1 / 3], resamples=1, rng=random.Random(0)) == (1 / 3, 1 / 3)


def test_bootstrap_covers_at_its_level() -> None:
    """Of the 95 % intervals of 200 samples about 190 contain the truth; fewer at this sample size, by a few."""
    source = random.Random(7)
    covered = 0
    for _ in range(200):
        low, high = bootstrap([source.gauss(2.0, 1.0) for _ in range(40)], resamples=200, rng=source)
        covered += low <= 2.0 <= high
    assert 178 <= covered <= 198


def test_bootstrap_is_quick() -> None:
    start = time.thread_time()
    bootstrap([float(i % 2) for i in range(400)], resamples=1000, rng=random.Random(0))
    assert time.thread_time() - start < 2.0


def test_percentiles_by_hand() -> None:
    estimates = [float(i) for i in range(1000)]
    assert percentiles(estimates) == (25.0, 974.0)
    assert percentiles(estimates[::-1], level=0.9) == (50.0, 949.0)
    assert percentiles([3.0, 1.0]) == (1.0, 3.0)


def test_bootstrap_refuses_nothing() -> None:
    with pytest.raises(ValueError, match="0 values"):
        bootstrap([], resamples=10, rng=random.Random(0))
    with pytest.raises(ValueError, match="0 resamples"):
        bootstrap([1.0], resamples=0, rng=random.Random(0))
    with pytest.raises(ValueError, match="level 1"):
        percentiles([1.0], level=1.0)
    with pytest.raises(ValueError, match="0 estimates"):
        percentiles([])


def test_the_interval_of_a_share_by_wilson() -> None:
    assert wilson(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    low, high = wilson(0.0, 10)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(1.96**2 / (10 + 1.96**2))
    assert wilson(1.0, 10) == pytest.approx((1 - high, 1.0))


def test_values_of_one_group_are_drawn_together() -> None:
    """Ten groups of nine equal values each are ten observations."""
    values, groups = [float(i % 2) for i in range(10) for _ in range(9)], [str(i) for i in range(10) for _ in range(9)]
    alone = bootstrap(values, resamples=500, rng=random.Random(0))
    together = bootstrap(values, resamples=500, rng=random.Random(0), groups=groups)
    ten = bootstrap(values[::9], resamples=500, rng=random.Random(0))
    assert together == ten
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
    assert bootstrap(values, resamples=50, rng=random.Random(0), groups=list(range(90))) == bootstrap(
        values, resamples=50, rng=random.Random(0)
    )
