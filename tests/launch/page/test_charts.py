"""The geometry of the charts: ticks, thinned lines and running means."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.page.charts import running_mean, thinned, ticks

FINITE = st.floats(-1e9, 1e9)


@given(FINITE, FINITE, st.integers(2, 9), st.booleans())
def test_ticks_cover_the_range_with_few_round_steps(a: float, b: float, count: int, whole: bool) -> None:
    low, high = min(a, b), max(a, b)
    values = ticks(low, high, count, whole=whole)
    slack = 1e-6 * max(1e-3, high - low, abs(high))
    assert values[0] <= low + slack
    assert values[-1] >= high - slack
    assert 2 <= len(values) <= 2 * count + 3
    assert all(left < right for left, right in pairwise(values))
    assert not whole or all(value == int(value) for value in values)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.0, 0.93, False, [0, 0.25, 0.5, 0.75, 1.0]),
        (0, 4, True, [0, 1, 2, 3, 4]),
        (-0.31, 0.9, False, [-0.5, 0, 0.5, 1.0]),
        (7, 7, True, [6, 7, 8]),
    ],
)
def test_ticks_of_usual_ranges(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert ticks(low, high, 5, whole=whole) == expected


@given(st.lists(FINITE, min_size=1, max_size=900), st.integers(8, 100))
def test_thinned_line_keeps_its_extremes_and_ends(values: list[float], most: int) -> None:
    line = [(float(x), y) for x, y in enumerate(values)]
    kept = thinned(line, most)
    assert len(kept) <= most
    assert {line[0], line[-1]} <= set(kept) <= set(line)
    assert min(y for _, y in kept) == min(values)
    assert max(y for _, y in kept) == max(values)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_running_mean_never_looks_ahead() -> None:
    assert running_mean([(0, 1.0), (1, 3.0), (2, 5.0), (3, 10.0)], 3) == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 6.0)]
