"""The driver's slices with threads for actors: who is on_report, who is waited for, whose error it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from launch.cluster import supervision
from launch.cluster.actor_group import ActorGroup
from launch.cluster.supervision import RunFailed, SupervisedGroup, poll
from learner.checkpoint import CheckpointError
from tests.launch.cluster.local_ray import LocalActor, LocalRay


@dataclass
class Report:
    said: str
    completions: int = 1


class Worker:
    """Answers each slice when the test lets it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.slices = Report(answer) if isinstance(answer, str) else answer, 0
        self.gate = threading.Event()

    def ready(self) -> None:
        """At once."""

    def work(self, seconds: float) -> Any:
        assert seconds == supervision.SLICE_S
        assert self.gate.wait(10)
        self.slices += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], tuple[Worker, LocalActor]]]:
    monkeypatch.setattr(supervision, "ray", LocalRay)
    monkeypatch.setattr(supervision, "SLICE_S", 0.05)
    hired: list[tuple[Worker, LocalActor]] = []

    def made(answer: Any) -> tuple[Worker, LocalActor]:
        worker = Worker(answer)
        hired.append((worker, LocalActor(worker)))
        return hired[-1]

    yield made
    for worker, actor in hired:
        worker.gate.set()
        actor.end()


def drive_for_ever(driven: SupervisedGroup) -> None:
    while True:
        until_heard([driven])
        driven.submit()


def part(
    name: str,
    actors: Sequence[LocalActor],
    on_report: Callable[[Any], None],
    *,
    restarts: int = 0,
    said: list[str] | None = None,
) -> SupervisedGroup:
    """A part of actors that are ready. What replaces them are the same again."""
    group = ActorGroup(
        name,
        make=lambda: {str(i): a for i, a in enumerate(actors)},
        start=lambda made: [a.ready.remote() for a in made],
        end=lambda made: None,
    )
    group.begin()
    group.ready = True
    return SupervisedGroup(group, "work", on_report, restarts=restarts, note=(said if said is not None else []).append)


Hire = Callable[[Any], tuple[Worker, LocalActor]]


def until_heard(found: list[SupervisedGroup]) -> list[SupervisedGroup]:
    deadline = time.monotonic() + 10
    while not (on_report := poll(found)):
        assert time.monotonic() < deadline
    return on_report


def test_who_ends_a_slice_is_heard_and_nobody_waits_for_the_slow(hire: Hire) -> None:
    on_report: list[tuple[str, str]] = []
    (quick, quick_actor), (slow, slow_actor) = hire("a"), hire("b")
    one = part("quick", [quick_actor], lambda report: on_report.append(("quick", report.said)))
    two = part("slow", [slow_actor], lambda report: on_report.append(("slow", report.said)))
    for one_of_them in (one, two):
        one_of_them.submit()
    assert poll([one, two]) == []
    quick.gate.set()
    for _ in range(3):
        assert until_heard([one, two]) == [one]
        one.submit()
    assert on_report == [("quick", "a")] * 3
    slow.gate.set()
    while ("slow", "b") not in on_report:
        for ended in until_heard([one, two]):
            ended.submit()
    assert slow.slices == 1


def test_ranks_are_heard_once_when_all_have_answered_and_the_first_reports(hire: Hire) -> None:
    on_report: list[Any] = []
    (first, first_actor), (second, second_actor) = hire("rank 0"), hire("rank 1")
    learner = part("the learner", [first_actor, second_actor], on_report.append)
    learner.submit()
    first.gate.set()
    assert [poll([learner]) for _ in range(3)] == [[]] * 3
    second.gate.set()
    assert until_heard([learner]) == [learner]
    assert [report.said for report in on_report] == ["rank 0"]
    assert learner.refs == []


def test_a_slice_without_a_report_is_not_heard(hire: Hire) -> None:
    worker, actor = hire(None)
    learner = part("the learner", [actor], lambda report: pytest.fail(f"on_report {report}"))
    learner.submit()
    worker.gate.set()
    assert until_heard([learner]) == [learner]


def test_a_part_that_dies_too_often_ends_the_run_with_its_name_and_its_last_error(hire: Hire) -> None:
    said: list[str] = []
    worker, actor = hire(ZeroDivisionError("in the engine"))
    rollout = part("rollout actor 3", [actor], lambda report: None, restarts=2, said=said)
    rollout.submit()
    worker.gate.set()
    with pytest.raises(RunFailed, match=r"rollout actor 3 failed 3 times in a row .*cluster.restarts = 2.*ZeroDivisionError"):
        drive_for_ever(rollout)
    assert len(said) == rollout.replaced == 2
    assert "rollout actor 3 died" in said[0]


def test_work_that_gets_done_forgives_earlier_deaths(hire: Hire) -> None:
    worker, actor = hire(ZeroDivisionError("now and then"))
    rollout = part("rollout actor 3", [actor], lambda report: None, restarts=1)
    worker.gate.set()
    for _ in range(4):
        worker.answer = ZeroDivisionError("now and then")
        rollout.submit()
        until_heard([rollout])  # its death
        until_heard([rollout])  # ready again
        worker.answer = Report("done")
        rollout.submit()
        until_heard([rollout])
    assert rollout.replaced == 4


def test_a_rank_that_fails_is_noticed_while_the_others_wait_for_it(hire: Hire) -> None:
    (_, waiting), (broken, failing) = hire("rank 0"), hire(ConnectionError("peer"))
    learner = part("the learner", [waiting, failing], lambda report: None, restarts=1)
    learner.submit()
    broken.gate.set()
    assert until_heard([learner]) == [learner]
    assert learner.replaced == 1


def test_an_error_that_another_try_would_meet_again_ends_the_run_at_once(hire: Hire) -> None:
    worker, actor = hire(CheckpointError("version-000007 is torn"))
    learner = part("the GRPO learner", [actor], lambda report: None, restarts=5)
    learner.submit()
    worker.gate.set()
    with pytest.raises(RunFailed, match=r"the GRPO learner failed: .*version-000007 is torn"):
        until_heard([learner])
