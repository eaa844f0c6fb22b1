"""The number of rollout workers that a run should have, and the numbers of new ones."""

import pytest

from buffer.rollout_target import next_worker, rollout_target, set_rollout_target
from buffer.streams import setup
from tests.buffer.run_by_hand import Run


def test_without_a_target_there_is_none(steady_run: Run) -> None:
    assert rollout_target(steady_run.client, steady_run.run_id) is None


def test_the_last_target_counts(run: Run) -> None:
    for workers in (3, 1, 64):
        set_rollout_target(run.client, run.run_id, workers)
        assert rollout_target(run.client, run.run_id) == workers
    assert rollout_target(run.client, f"{run.run_id}-other") is None


@pytest.mark.parametrize("workers", [0, -1])
def test_a_target_below_one_is_refused(steady_run: Run, workers: int) -> None:
    set_rollout_target(steady_run.client, steady_run.run_id, 2)
    with pytest.raises(ValueError, match=f"{workers} rollout workers: expected 1 or more"):
        set_rollout_target(steady_run.client, steady_run.run_id, workers)
    assert rollout_target(steady_run.client, steady_run.run_id) == 2


def test_no_worker_number_is_used_twice_even_after_a_resume(steady_run: Run) -> None:
    client, run_id = steady_run.client, steady_run.run_id
    assert [next_worker(client, run_id) for _ in range(3)] == [0, 1, 2]
    setup(client, run_id, meta_rm=True)
    assert next_worker(client, run_id) == 3
