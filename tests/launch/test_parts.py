"""The driver's slices with threads for actors: who is heard, who is waited for, whose error it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from launch import parts
from launch.parts import Part, PartFailed, ages, listen
from tests.launch.local_ray import LocalActor, LocalRay


class Worker:
    """Answers each slice when the test lets it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.slices = answer, 0
        self.gate = threading.Event()

    def work(self, seconds: float) -> Any:
        assert seconds == parts.SLICE_S
        assert self.gate.wait(10)
        self.slices += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], tuple[Worker, LocalActor]]]:
    monkeypatch.setattr(parts, "ray", LocalRay)
    monkeypatch.setattr(parts, "SLICE_S", 0.05)
    hired: list[tuple[Worker, LocalActor]] = []

    def made(answer: Any) -> tuple[Worker, LocalActor]:
        worker = Worker(answer)
        hired.append((worker, LocalActor(worker)))
        return hired[-1]

    yield made
    for worker, actor in hired:
        worker.gate.set()
        actor.end()


Hire = Callable[[Any], tuple[Worker, LocalActor]]


def until_heard(found: list[Part]) -> list[Part]:
    deadline = time.monotonic() + 10
    while not (heard := listen(found)):
        assert time.monotonic() < deadline
    return heard


def test_who_ends_a_slice_is_heard_and_nobody_waits_for_the_slow(hire: Hire) -> None:
    heard: list[tuple[str, str]] = []
    (quick, quick_actor), (slow, slow_actor) = hire("a"), hire("b")
    one = Part("quick", [quick_actor], "work", lambda report: heard.append(("quick", report)))
    two = Part("slow", [slow_actor], "work", lambda report: heard.append(("slow", report)))
    for part in (one, two):
        part.submit()
    assert listen([one, two]) == []
    quick.gate.set()
    for _ in range(3):
        assert until_heard([one, two]) == [one]
        one.submit()
    assert heard == [("quick", "a")] * 3
    slow.gate.set()
    while ("slow", "b") not in heard:
        for part in until_heard([one, two]):
            part.submit()
    assert slow.slices == 1


def test_ranks_are_heard_once_when_all_have_answered_and_the_first_reports(hire: Hire) -> None:
    heard: list[str] = []
    (first, first_actor), (second, second_actor) = hire("rank 0"), hire("rank 1")
    part = Part("the learner", [first_actor, second_actor], "work", heard.append)
    part.submit()
    first.gate.set()
    assert [listen([part]) for _ in range(3)] == [[]] * 3
    second.gate.set()
    assert until_heard([part]) == [part]
    assert heard == ["rank 0"]
    assert part.refs == []


def test_a_slice_without_a_report_counts_as_a_pulse_only(hire: Hire) -> None:
    worker, actor = hire(None)
    part = Part("the learner", [actor], "work", lambda report: pytest.fail(f"heard {report}"))
    part.last -= 100
    assert ages([part]) == "the learner 100 s ago"
    part.submit()
    worker.gate.set()
    assert until_heard([part]) == [part]
    assert ages([part]) == "the learner 0 s ago"


def test_an_error_inside_a_part_surfaces_with_its_name(hire: Hire) -> None:
    worker, actor = hire(ZeroDivisionError("in the engine"))
    part = Part("rollout actor 3", [actor], "work", lambda report: None)
    part.submit()
    worker.gate.set()
    with pytest.raises(PartFailed, match=r"rollout actor 3 failed: .*ZeroDivisionError.*in the engine"):
        until_heard([part])
