"""What runs inside the actors of `FakeActors`. Light: a worker that joins is there in a second or two."""

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buffer.messages import Completion
from buffer.streams import Address
from buffer.weights import WeightSink
from configs.schema import Config
from tests.chaos.components import ListLearner, judgement
from tests.fakes import TimedEngine


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the driver reads of a `GRPOReport`, whose module imports torch."""

    version: int
    groups: tuple[int, ...]
    completions: int
    metrics: dict[str, float]


class SlowJudge(TimedEngine):
    """Takes longer for what is judged (greedily) than for groups."""

    def __init__(self, seconds: float, judge_s: float, *, places: int) -> None:
        super().__init__(judgement, seconds=lambda request: seconds, places=places)
        self._judge_s = judge_s

    def submit(self, requests: Any) -> list[Future[tuple[Completion, ...]]]:
        if requests[0].temperature > 0:
            return super().submit(requests)
        futures: list[Future[tuple[Completion, ...]]] = [Future() for _ in requests]

        def answer() -> None:
            for request, future in zip(requests, futures, strict=True):
                future.set_result((self._complete(request, 0),))

        threading.Timer(self._judge_s, answer).start()
        return futures


class FakeLearner:
    """`ListLearner` as the driver calls a learner."""

    def __init__(self, *, config: Config, address: Address, sink: WeightSink, checkpoints: Path, stacks: str) -> None:
        self._make = lambda: ListLearner(config, address, sink, checkpoints, "grpo-0")

    def start(self) -> None:
        self._learner = self._make()

    def step(self, seconds: float) -> Report | None:
        began = time.monotonic()
        version = self._learner.version
        batch = self._learner.step(seconds)
        if not batch:
            return None
        staleness = [version - received.group.issued_at for received in batch]
        waited = time.monotonic() - began
        metrics = {
            "staleness/max": float(max(staleness)),
            "staleness/mean": sum(staleness) / len(staleness),
            "time/wait_for_experience_s": waited,
            "time/step_s": waited,
            "idle/learner_ratio": 1.0,
        }
        groups = tuple(received.group.group for received in batch)
        done = self._learner.version
        return Report(version=done, groups=groups, completions=len(groups), metrics=metrics)
