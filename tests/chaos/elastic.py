"""Workers come and go under the real driver, with fake engines: does the throughput follow, is anything lost?

python tests/chaos/elastic.py 1 6 2                (make chaos)
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buffer.ledger import Ledger
from buffer.rollout_target import set_rollout_target
from configs.load import load
from configs.schema import Config
from launch.cluster.ray_cluster import Cluster
from launch.monitoring.console import ProgressDisplay
from tests.chaos.actors import FakeActors, fake_actors, training
from tests.chaos.components import restored

PER_WORKER = 4  # groups in an engine at a time
SETTLE_S = 4.0
JOIN_S = 300.0  # for workers to come or go, of which two cores start two at a time


def config(workers: int) -> Config:
    return load(
        "tiny",
        [
            "grpo.batch_groups=16",
            "grpo.steps=1000000",
            "grpo.max_staleness=3",
            "rollout.samples=2",
            "meta_rm.enabled=false",
            "learner.checkpoint_every=1",
            f"rollout.max_groups={PER_WORKER}",
            f"rollout.workers={workers}",
            "redis.claim_timeout_s=2",
            "eval.every=0",
            "eval.votes=[]",
            "waits.drain_s=2",
            "waits.start_s=120",
        ],
    )


class Meter:
    """How many groups a second are settled, in one phase after another."""

    def __init__(self, actors: FakeActors) -> None:
        self.actors = actors
        self._ledger = Ledger(actors.redis, actors.address.run_id)
        self.rates: list[tuple[str, float]] = []
        self.done = False
        self.driver: Future[None] | None = None
        """The training, whose error ends the wait for its workers."""

    def set_target(self, workers: int) -> None:
        set_rollout_target(self.actors.redis, self.actors.address.run_id, workers)

    def measure(self, phase: str, *, workers: int, seconds: float = 4.0, settle_s: float = 1.0) -> None:
        """Wait until so many workers are at work and `settle_s` more, then count for `seconds`."""
        deadline = time.monotonic() + JOIN_S
        while len(self.actors.rollouts) != workers:
            if self.driver is not None and self.driver.done():
                self.driver.result()
            if time.monotonic() > deadline:
                raise AssertionError(f"{phase}: {len(self.actors.rollouts)} workers after {JOIN_S:.0f} s, not {workers}")
            time.sleep(0.1)
        time.sleep(settle_s)
        before, began = settled(self._ledger), time.monotonic()
        time.sleep(seconds)
        self.rates.append((phase, (settled(self._ledger) - before) / (time.monotonic() - began)))


def settled(ledger: Ledger) -> int:
    """Groups that came out at the end of the loop."""
    outcomes = ledger.outcomes()
    return outcomes["trained"] + outcomes["filtered"]


class Enough(Exception):
    """What was to be measured is."""


class Until(ProgressDisplay):
    """Ends the training when the meter is done."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(1, 1, io.StringIO())
        self._meter = meter

    def update(self, **figures: Any) -> None:
        if self._meter.done:
            raise Enough


def verify(actors: FakeActors, settings: Config, folder: Path) -> dict[str, int]:
    """Check that every issued group is trained once, filtered or still outstanding; the counts by outcome."""
    actors.grpo.end()
    ledger = Ledger(actors.redis, actors.address.run_id)
    _, _, weights = restored(folder / "checkpoints")
    trained = [group for group, _, _ in weights]
    outcomes = ledger.outcomes()
    assert outcomes["issued"] == outcomes["trained"] + outcomes["filtered"] + len(ledger.outstanding())
    assert len(trained) == len(set(trained))
    assert outcomes["trained"] - len(trained) in (0, settings.grpo.batch_groups)  # a step that was not saved when it ended
    assert max(at - u for _, u, at in weights) <= settings.grpo.max_staleness
    return outcomes


def play(chosen: Config, place: Path, script: Callable[[Meter], None]) -> list[tuple[str, float]]:
    """(phase, rate) of a run during which `script` is played, in the main thread: Ray starts nodes in no other."""
    with (
        Cluster(chosen, run_id="chaos", folder=place, model="", gpus=0) as cluster,
        fake_actors(cluster, chosen, place, kind=FakeActors) as actors,
        ThreadPoolExecutor(1) as pool,
    ):
        meter = Meter(actors)
        meter.driver = driver = pool.submit(training(chosen, actors, place, Until(meter)).run)
        try:
            script(meter)
        finally:
            meter.done = True
            with suppress(Enough):
                driver.result(60)
        print(json.dumps(verify(actors, chosen, place)))
        return meter.rates


def run(targets: Sequence[int], *, seconds: float) -> list[tuple[int, float]]:
    """Groups settled per second by number of workers."""

    def script(meter: Meter) -> None:
        for target in targets:
            meter.set_target(target)
            meter.measure(f"{target} workers", workers=target, seconds=seconds, settle_s=SETTLE_S)

    with tempfile.TemporaryDirectory(prefix="spct-elastic-") as place:
        rates = play(config(targets[0]), Path(place), script)
    return [(target, rate) for target, (_, rate) in zip(targets, rates, strict=True)]


if __name__ == "__main__":
    wanted = [int(word) for word in sys.argv[1:]] or [1, 6, 2]
    measured = run(wanted, seconds=10.0)
    first = measured[0][1] / measured[0][0]
    for workers, rate in measured:
        print(f"{workers} workers: {rate:.1f} groups/s, {rate / workers / first:.2f} of the first worker's rate each")
