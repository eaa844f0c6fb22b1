"""The driver's slices with threads for actors: which reports are taken, what is waited for, where an error came from."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from launch.cluster import calls
from launch.cluster.actor_group import State
from launch.cluster.supervision import poll
from tests.launch.cluster.local_ray import RayError
from tests.launch.cluster.slices import DRAIN_S, StartWorker, supervised, until_ended


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
