"""What died is replaced, as long as it gets on; the run then ends with its name and its own error. Threads for actors."""

from dataclasses import dataclass
from typing import Any

import pytest

from launch.cluster.failures import RunFailed
from launch.cluster.supervision import SupervisedGroup
from learner.checkpoint import CheckpointError
from tests.launch.cluster.local_ray import RayError
from tests.launch.cluster.slices import Report, StartWorker, Worker, supervised, until_ended


def drive(group: SupervisedGroup) -> None:
    """Until it fails."""
    while True:
        until_ended([group])
        group.work()


def test_a_group_that_dies_too_often_ends_the_run_with_its_name_and_its_last_error(start_worker: StartWorker) -> None:
    notes: list[str] = []
    worker, actor = start_worker(ZeroDivisionError("in the engine"))
    rollout = supervised("rollout actor 3", [actor], lambda report: None, restarts=2, notes=notes)
    rollout.work()
    worker.gate.set()
    with pytest.raises(RunFailed, match=r"rollout actor 3 failed 3 times in a row .*cluster.restarts = 2.*ZeroDivisionError"):
        drive(rollout)
    assert len(notes) == rollout.replaced == 2
    assert "rollout actor 3 died" in notes[0]


def again(group: SupervisedGroup, worker: Worker, answer: Any) -> None:
    """It dies of an error, is made again, and its next slice has this answer."""
    group.step()
    until_ended([group])  # its death
    until_ended([group])  # ready again
    worker.answer, before = answer, worker.answer
    give = group.step if isinstance(answer, Step) else group.work
    give()
    until_ended([group])
    worker.answer = before


@dataclass
class Step:
    """A learner's report."""

    version: int


def test_work_that_gets_done_forgives_earlier_deaths(start_worker: StartWorker) -> None:
    worker, actor = start_worker(RayError("the node was taken away"))
    rollout = supervised("rollout actor 3", [actor], lambda report: None, restarts=1)
    worker.gate.set()
    for _ in range(4):
        again(rollout, worker, Report("done"))
    assert rollout.replaced == 4


def test_an_empty_slice_forgives_nothing(start_worker: StartWorker) -> None:
    worker, actor = start_worker(RayError("the node was taken away"))
    rollout = supervised("rollout actor 3", [actor], lambda report: None, restarts=1)
    worker.gate.set()
    again(rollout, worker, Report("nothing to do", completions=0))
    with pytest.raises(RunFailed, match="failed 2 times in a row and got no further in between"):
        again(rollout, worker, Report("done"))


def test_only_a_version_beyond_all_earlier_ones_forgives_a_learners_deaths(start_worker: StartWorker) -> None:
    worker, actor = start_worker(RayError("the node was taken away"))
    learner = supervised("the learner", [actor], lambda report: None, restarts=1)
    worker.gate.set()
    for version in (1, 2, 3):
        again(learner, worker, Step(version))
    assert learner.replaced == 3
    again(learner, worker, Step(3))  # a step that is done again
    with pytest.raises(RunFailed, match="failed 2 times in a row and got no further in between"):
        again(learner, worker, Step(4))


def test_the_same_error_counts_whatever_was_done_in_between(start_worker: StartWorker) -> None:
    worker, actor = start_worker(ZeroDivisionError("in row 17"))
    rollout = supervised("rollout actor 3", [actor], lambda report: None, restarts=3)
    worker.gate.set()
    for row in (1, 2, 3):
        worker.answer = ZeroDivisionError(f"in row {row}")
        again(rollout, worker, Report("done"))
    worker.answer = KeyError("of another place")
    again(rollout, worker, Report("done"))
    worker.answer = ConnectionError("the network, which is allowed to fail at any time")
    for _ in range(5):
        again(rollout, worker, Report("done"))
    worker.answer = ZeroDivisionError("in row 4")
    failure = r"rollout actor 3 failed 4 times with the same error \(cluster.restarts = 3\): ZeroDivisionError: in row 4$"
    with pytest.raises(RunFailed, match=failure):
        again(rollout, worker, Report("done"))


def test_an_error_that_another_try_would_meet_again_ends_the_run_at_once(start_worker: StartWorker) -> None:
    worker, actor = start_worker(CheckpointError("version-000007 is torn"))
    learner = supervised("the GRPO learner", [actor], lambda report: None, restarts=5)
    learner.work()
    worker.gate.set()
    with pytest.raises(RunFailed, match=r"the GRPO learner failed: .*version-000007 is torn"):
        until_ended([learner])
