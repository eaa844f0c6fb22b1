"""Statistics of what arrived, by hand."""

from dataclasses import replace

import pytest

from launch.monitoring.metrics import checked
from learner.arrivals import ArrivalStats, percentile
from tests.learner.run_by_hand import experience


def test_every_completion_that_arrived_counts() -> None:
    stats = ArrivalStats()
    assert stats.metrics() == {}
    first = replace(experience(0, 0, rewards=(1.0, -1.0, -1.0, -1.0)), truncated=(True, False, False, False))
    second = replace(experience(1, 0, rewards=(1.0,) * 4), truncated=(False,) * 4, failures=("", "no_box", "", ""))
    third = replace(experience(2, 0, rewards=(-1.0,) * 4), truncated=(True,) * 4)
    for group in (first, second, third):
        stats.add(group)
    lengths = sorted(len(ids) for group in (first, second, third) for ids in group.completion_ids)
    assert stats.metrics() == {
        "reward/mean": pytest.approx((1 - 3 + 4 - 4) / 12),
        "reward/solved_all": pytest.approx(1 / 3),
        "reward/solved_none": pytest.approx(1 / 3),
        "parse/failure_rate": pytest.approx(1 / 12),
        "length/truncated_fraction": pytest.approx(5 / 12),
        "length/completion_p50": pytest.approx((lengths[5] + lengths[6]) / 2),
        "length/completion_p95": pytest.approx(0.55 * lengths[10] + 0.45 * lengths[11]),  # at 0.95 * 11 = 10.45
    }


def test_percentiles() -> None:
    assert percentile([5, 1, 3, 2, 4], 50) == 3
    assert percentile([1, 2, 3, 4, 5], 95) == pytest.approx(4.8)
    assert percentile([7], 95) == 7


def test_what_arrived_without_a_step_can_be_logged_beside_the_last_version() -> None:
    stats = ArrivalStats(dropped_lengths=[3])
    stats.add(experience(0, 0, rewards=(-1.0,) * 4))
    assert stats.informative == 0
    assert checked({"learner/version": 4, **stats.metrics()})["reward/solved_none"] == 1
    stats.add(experience(1, 0))
    assert stats.informative == 1
