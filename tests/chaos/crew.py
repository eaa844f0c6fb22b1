"""Fake engines and a fake learner under the real driver: Ray, the crew, the workforce and the streams are those of a run.

For what needs many workers, or several nodes, on a machine that has room for one engine.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from actors.engine import Generator
from buffer.messages import Completion
from buffer.streams import Address
from buffer.weights import WeightSink
from configs.schema import Config
from launch.crew import TrainingCrew
from launch.progress import Progress
from launch.standing import Standing
from launch.tracking import Tracker
from launch.training import Training
from launch.units import Unit
from learner.grpo import GRPOReport
from tests.chaos.parts import ListLearner, judgement, preferences, take
from tests.fakes import FakeEngine


class TimedEngine(FakeEngine):
    """Finishes each request a fixed time after it was submitted, however many there are: as an engine with room does."""

    def __init__(self, seconds: float) -> None:
        super().__init__(judgement)
        self.automatic = False
        self._seconds, self._due = seconds, list[float]()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, requests: Any) -> list[Future[tuple[Completion, ...]]]:
        self._due += [time.monotonic() + self._seconds] * len(requests)
        return super().submit(requests)

    def _run(self) -> None:
        while True:
            time.sleep(0.005)
            self.steps += 1
            ready = sum(due <= time.monotonic() for due in self._due)
            if ready:
                del self._due[:ready]
                self.finish(ready)


class FakeLearner:
    """`ListLearner` as the driver calls a learner."""

    def __init__(
        self, *, config: Config, address: Address, sink: WeightSink, checkpoints: Path, stacks: str
    ) -> None:
        self._make = lambda: ListLearner(config, address, sink, checkpoints, "grpo-0")

    def start(self) -> None:
        self._learner = self._make()

    def step(self, seconds: float) -> GRPOReport | None:
        began = time.monotonic()
        version = self._learner.version
        batch = self._learner.step(seconds)
        if not batch:
            return None
        staleness = [version - one.group.issued_at for one in batch]
        waited = time.monotonic() - began
        metrics = {
            "staleness/max": float(max(staleness)), "staleness/mean": sum(staleness) / len(staleness),
            "time/wait_for_experience_s": waited, "time/step_s": waited, "idle/learner_ratio": 1.0,
        }  # fmt: skip
        groups = tuple(one.group.group for one in batch)
        done = self._learner.version
        return GRPOReport(version=done, groups=groups, completions=len(groups), tokens=0, loss=0.0, metrics=metrics)


class FakeCrew(TrainingCrew):
    """seconds: what a group takes in an engine."""

    seconds = 0.4

    def _engine(self, number: int) -> Callable[[], Generator]:
        seconds = self.seconds

        def build() -> Generator:
            return TimedEngine(seconds)

        return build

    def _make_learners(self) -> list[Unit]:
        return [
            Unit("the GRPO learner", make=self._make_fake, start=lambda made: [a.start.remote() for a in made], end=self._end)
        ]

    def _make_fake(self) -> dict[str, Any]:
        actor = self._remote(
            FakeLearner, "grpo-0", "learner", {}, config=self._config, sink=self._weights, checkpoints=self._checkpoints
        )
        return {"grpo-0": actor}


def fake_crew(cluster: Any, config: Config, folder: Path) -> FakeCrew:
    return FakeCrew(cluster, config, model="", preferences=preferences(), checkpoints=folder / "checkpoints", seed=None)


def training(config: Config, crew: FakeCrew, folder: Path) -> Training:
    return Training(
        config,
        crew=crew,
        prompts=SimpleNamespace(take=take),  # type: ignore[arg-type]
        heldout=(),
        tracker=Tracker(folder, "fake", {}, "spct", "disabled"),
        progress=Progress(config.grpo.steps, config.grpo.max_staleness, io.StringIO()),
        standing=Standing(folder / "standing.json"),
    )
