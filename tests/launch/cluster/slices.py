"""Workers that answer each slice when the test lets it, for the tests of supervision. The fixture is in conftest.py."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from launch.cluster import calls
from launch.cluster.supervision import SupervisedGroup, poll
from tests.launch.cluster.local_ray import LocalActor, local_group, up

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
    deadline = time.monotonic() + 60
    while not (ended := poll(groups)):
        assert time.monotonic() < deadline
    return ended
