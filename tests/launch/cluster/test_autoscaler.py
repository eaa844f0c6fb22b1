"""What the autoscaler decides, in numbers."""

import pytest

from launch.cluster.autoscaler import PATIENCE, Autoscaler

STARVED, IDLE, EVEN = (0.7, 0.1), (0.1, 0.7), (0.3, 0.3)  # (learner_idle, rollout_idle)


def decisions(scaler: Autoscaler, workers: int, *steps: tuple[float, float]) -> list[int | None]:
    return [scaler.decide(workers, *step) for step in steps]


def test_it_grows_by_one_after_three_steps_in_which_the_learner_waits() -> None:
    assert PATIENCE == 3
    assert decisions(Autoscaler(1, 8), 4, STARVED, STARVED, STARVED) == [None, None, 5]


def test_it_shrinks_by_one_after_three_steps_in_which_the_workers_wait() -> None:
    assert decisions(Autoscaler(1, 8), 4, IDLE, IDLE, IDLE) == [None, None, 3]


def test_it_begins_to_count_anew_after_a_decision() -> None:
    assert decisions(Autoscaler(1, 8), 4, *[STARVED] * 7) == [None, None, 5, None, None, 5, None]


@pytest.mark.parametrize("between", [EVEN, IDLE])
def test_a_step_that_points_elsewhere_begins_the_count_anew(between: tuple[float, float]) -> None:
    steps = [STARVED, STARVED, between, STARVED, STARVED, STARVED]
    assert decisions(Autoscaler(1, 8), 4, *steps) == [None, None, None, None, None, 5]


@pytest.mark.parametrize(
    ("learner_idle", "rollout_idle", "target"),
    [
        (0.51, 0.19, 5),
        (0.5, 0.19, None),  # not above IDLE
        (0.51, 0.2, None),  # not below BUSY
        (0.19, 0.51, 3),
        (0.2, 0.51, None),
        (0.9, 0.9, None),  # both wait: more or fewer workers would not help
        (0.0, 0.0, None),
    ],
)
def test_one_side_must_wait_and_the_other_be_busy(learner_idle: float, rollout_idle: float, target: int | None) -> None:
    assert decisions(Autoscaler(1, 8), 4, *[(learner_idle, rollout_idle)] * 3)[-1] == target


def test_it_never_leaves_its_bounds() -> None:
    assert decisions(Autoscaler(2, 4), 4, *[STARVED] * 6) == [None] * 6
    assert decisions(Autoscaler(2, 4), 2, *[IDLE] * 6) == [None] * 6


@pytest.mark.parametrize(("workers", "target"), [(9, 8), (1, 2)])
def test_outside_the_bounds_it_moves_inside_at_once(workers: int, target: int) -> None:
    assert Autoscaler(2, 8).decide(workers, *EVEN) == target


def test_a_lower_bound_of_zero_keeps_one_worker() -> None:
    assert decisions(Autoscaler(0, 4), 1, *[IDLE] * 3) == [None] * 3


def test_without_an_upper_bound_it_is_off() -> None:
    assert decisions(Autoscaler(0, 0), 4, *[STARVED] * 6) == [None] * 6
