"""The driver's slices with threads for actors: which reports are taken, what is waited for, where an error came from."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from launch.cluster import calls
from launch.cluster.actor_group import State
from launch.cluster.failures import RunFailed
from launch.cluster.supervision import SupervisedGroup, poll
from learner.checkpoint import CheckpointError
from tests.launch.cluster.local_ray import LocalActor, LocalRay, RayError, local_group, up

DRAIN_S = 7.0


@dataclass
class Report:
    text: str
    completions: int = 1


class Worker:
    """Answers each slice when the test lets it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.slices = Report(answer) if isinstance(answer, str) else answer, 0
        self.gate = threading.Event()

    def ready(self) -> None:
        """At once."""

    def work(self, seconds: float) -> Any:
        assert seconds == calls.SLICE_S
        return self._answer()

    def step(self, seconds: float) -> Any:
        return self.work(seconds)

    def drain(self, seconds: float) -> Any:
        assert seconds == DRAIN_S
        return self._answer()

    def _answer(self) -> Any:
        assert self.gate.wait(10)
        self.slices += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def start_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], tuple[Worker, LocalActor]]]:
    monkeypatch.setattr(calls, "ray", LocalRay)
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    started: list[tuple[Worker, LocalActor]] = []

    def made(answer: Any) -> tuple[Worker, LocalActor]:
        worker = Worker(answer)
        started.append((worker, LocalActor(worker)))
        return started[-1]

    yield made
    for worker, actor in started:
        worker.gate.set()
        actor.end()


def drive(group: SupervisedGroup) -> None:
    """Until it fails."""
    while True:
        until_ended([group])
        group.work()


def supervised(
    name: str,
    actors: Sequence[LocalActor],
    on_report: Callable[[Any], None],
    *,
    restarts: int = 0,
    notes: list[str] | None = None,
) -> SupervisedGroup:
    """A group of actors that are ready. What replaces them are the same again."""
    group = local_group(name, make=lambda: {str(i): a for i, a in enumerate(actors)}, end=lambda made: None)
    return SupervisedGroup(up(group), on_report=on_report, restarts=restarts, note=(notes if notes is not None else []).append)


StartWorker = Callable[[Any], tuple[Worker, LocalActor]]


def until_ended(groups: list[SupervisedGroup]) -> list[SupervisedGroup]:
    deadline = time.monotonic() + 10
    while not (ended := poll(groups)):
        assert time.monotonic() < deadline
    return ended


def test_a_report_is_taken_when_its_slice_ends_whatever_the_slow_do(start_worker: StartWorker) -> None:
    reports: list[tuple[str, str]] = []
    (quick, quick_actor), (slow, slow_actor) = start_worker("a"), start_worker("b")
    first = supervised("quick", [quick_actor], lambda report: reports.append(("quick", report.text)))
    second = supervised("slow", [slow_actor], lambda report: reports.append(("slow", report.text)))
    for group in (first, second):
        group.work()
    assert poll([first, second]) == []
    quick.gate.set()
    for _ in range(3):
        assert until_ended([first, second]) == [first]
        first.work()
    assert reports == [("quick", "a")] * 3
    slow.gate.set()
    while ("slow", "b") not in reports:
        for ended in until_ended([first, second]):
            ended.work()
    assert slow.slices == 1


def test_ranks_report_once_when_all_have_answered(start_worker: StartWorker) -> None:
    reports: list[Any] = []
    (first, first_actor), (second, second_actor) = start_worker("rank 0"), start_worker("rank 1")
    learner = supervised("the learner", [first_actor, second_actor], reports.append)
    learner.work()
    first.gate.set()
    assert [poll([learner]) for _ in range(3)] == [[]] * 3
    second.gate.set()
    assert until_ended([learner]) == [learner]
    assert [report.text for report in reports] == ["rank 0"]
    assert learner.pending == []


def test_a_rank_that_has_answered_keeps_no_other_group_waiting(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    first_answered = calls.first_answered

    def counted(refs: Sequence[Any], timeout_s: float) -> list[Any]:
        waits.append(len(refs))
        return first_answered(refs, timeout_s)

    monkeypatch.setattr(calls, "first_answered", counted)
    reports: list[str] = []
    ranks = [start_worker("rank 0"), start_worker("rank 1")]
    worker, worker_actor = start_worker("worker")
    learner = supervised("the learner", [actor for _, actor in ranks], lambda report: reports.append(report.text))
    pool = supervised("a worker", [worker_actor], lambda report: reports.append(report.text))
    learner.work()
    pool.work()
    ranks[1][0].gate.set()
    while not calls.answered(learner.pending):
        time.sleep(0.01)
    assert [poll([learner, pool]) for _ in range(3)] == [[]] * 3
    assert waits == [2, 2, 2], "each of them waits, for rank 0 and the worker alone"
    worker.gate.set()
    assert until_ended([learner, pool]) == [pool]
    ranks[0][0].gate.set()
    assert until_ended([learner, pool]) == [learner]
    assert reports == ["worker", "rank 0"]


def test_a_slice_without_a_report_is_passed_over(start_worker: StartWorker) -> None:
    worker, actor = start_worker(None)
    learner = supervised("the learner", [actor], lambda report: pytest.fail(f"on_report {report}"))
    learner.work()
    worker.gate.set()
    assert until_ended([learner]) == [learner]


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


def test_a_rank_that_fails_is_noticed_while_the_others_wait_for_it(start_worker: StartWorker) -> None:
    (_, waiting), (broken, failing) = start_worker("rank 0"), start_worker(ConnectionError("peer"))
    learner = supervised("the learner", [waiting, failing], lambda report: None, restarts=1)
    learner.work()
    broken.gate.set()
    assert until_ended([learner]) == [learner]
    assert learner.replaced == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_ranks_that_failed_the_one_is_named_that_explains_the_other(
    order: tuple[int, int], start_worker: StartWorker
) -> None:
    notes: list[str] = []
    symptom = start_worker(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"))
    ranks = [symptom, start_worker(RayError("The actor died: no memory"))]
    learner = supervised("the learner", [ranks[i][1] for i in order], lambda report: None, restarts=1, notes=notes)
    learner.step()
    for worker, _ in ranks:
        worker.gate.set()
    while len(calls.answered(learner.pending)) < 2:
        time.sleep(0.01)
    learner.collect()
    assert notes == ["the learner died (The actor died: no memory): replaced, try 1 of 1"]


def test_an_error_that_another_try_would_meet_again_ends_the_run_at_once(start_worker: StartWorker) -> None:
    worker, actor = start_worker(CheckpointError("version-000007 is torn"))
    learner = supervised("the GRPO learner", [actor], lambda report: None, restarts=5)
    learner.work()
    worker.gate.set()
    with pytest.raises(RunFailed, match=r"the GRPO learner failed: .*version-000007 is torn"):
        until_ended([learner])


def test_a_slice_is_given_to_a_group_that_is_ready_only(start_worker: StartWorker) -> None:
    worker, actor = start_worker("done")
    rollout = supervised("rollout actor 3", [actor], lambda report: pytest.fail(f"a report: {report}"))
    rollout.group.replace()
    rollout.work()
    rollout.step()
    assert until_ended([rollout]) == [rollout]  # it is ready
    assert (rollout.group.state, worker.slices, rollout.pending) == (State.READY, 0, [])


def test_a_worker_drains_once_and_gets_nothing_new(start_worker: StartWorker) -> None:
    reports: list[Any] = []
    worker, actor = start_worker("the last one")
    rollout = supervised("rollout actor 3", [actor], reports.append)
    rollout.drain(DRAIN_S)
    assert rollout.group.state is State.DRAINING
    worker.gate.set()
    assert until_ended([rollout]) == [rollout]
    rollout.work()
    assert ([report.text for report in reports], rollout.pending) == (["the last one"], [])


def test_a_worker_that_dies_while_it_drains_is_not_replaced(start_worker: StartWorker) -> None:
    notes: list[str] = []
    worker, actor = start_worker(ZeroDivisionError("in the engine"))
    rollout = supervised("rollout actor 3", [actor], lambda report: None, notes=notes)
    rollout.drain(DRAIN_S)
    worker.gate.set()
    assert until_ended([rollout]) == [rollout]
    assert (rollout.group.state, rollout.replaced, rollout.pending) == (State.ENDED, 0, [])
    assert "rollout actor 3 died while it drained (ZeroDivisionError" in notes[0]
