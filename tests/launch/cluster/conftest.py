"""Threads for actors."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from launch.cluster import calls
from tests.launch.cluster.local_ray import LocalActor, LocalRay
from tests.launch.cluster.slices import Worker


@pytest.fixture
def start_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], tuple[Worker, LocalActor]]]:
    """Starts workers with what they answer: a report, or an error."""
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
