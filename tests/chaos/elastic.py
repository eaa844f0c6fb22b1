"""Workers come and go under the real driver, with fake engines: does the throughput follow, is anything lost?

    python tests/chaos/elastic.py 1 6 2                (make chaos)
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buffer.ledger import Ledger
from buffer.wishes import wish_rollouts
from configs.load import load
from configs.schema import Config
from launch.cluster import Cluster
from launch.progress import Progress
from tests.chaos.crew import FakeCrew, fake_crew, training
from tests.chaos.parts import restored

PER_WORKER = 4  # groups in an engine at a time
SETTLE_S = 4.0


def config(workers: int) -> Config:
    return load("tiny", [
        "grpo.batch_groups=16", "grpo.steps=1000000", "grpo.max_staleness=3", "rollout.samples=2", "meta_rm.enabled=false",
        "learner.checkpoint_every=1", f"rollout.max_groups={PER_WORKER}", f"rollout.workers={workers}",
        "redis.claim_timeout_s=2", "eval.every=0", "eval.votes=[]", "waits.drain_s=2", "waits.start_s=120",
    ])  # fmt: skip


class Watcher(threading.Thread):
    """Wishes for one number of workers after another, and measures what each number rolls out in `seconds`."""

    def __init__(self, crew: FakeCrew, wishes: Sequence[int], seconds: float) -> None:
        super().__init__(daemon=True)
        self._crew, self._wishes, self._seconds = crew, wishes, seconds
        self.rates: list[tuple[int, float]] = []
        self.done = False

    def run(self) -> None:
        ledger = Ledger(self._crew.redis, self._crew.address.run_id)
        for wish in self._wishes:
            wish_rollouts(self._crew.redis, self._crew.address.run_id, wish)
            while len(self._crew.rollouts) != wish:
                time.sleep(0.1)
            time.sleep(SETTLE_S)
            before, began = settled(ledger), time.monotonic()
            time.sleep(self._seconds)
            self.rates.append((wish, (settled(ledger) - before) / (time.monotonic() - began)))
        self.done = True


def settled(ledger: Ledger) -> int:
    """Groups that came out at the end of the loop."""
    fates = ledger.fates()
    return fates["trained"] + fates["filtered"]


class Enough(Exception):
    """What was to be measured is."""


class Until(Progress):
    """Ends the training when the watcher is done."""

    def __init__(self, watcher: Any) -> None:
        super().__init__(1, 1, io.StringIO())
        self._watcher = watcher

    def update(self, **figures: Any) -> None:
        if self._watcher.done:
            raise Enough


def verify(crew: FakeCrew, settings: Config, folder: Path) -> dict[str, int]:
    """Every issued group is trained once, filtered or still outstanding; the counts by fate."""
    crew.learners[0].end()
    ledger = Ledger(crew.redis, crew.address.run_id)
    _, _, weights = restored(folder / "checkpoints")
    trained = [group for group, _, _ in weights]
    fates = ledger.fates()
    assert fates["issued"] == fates["trained"] + fates["filtered"] + len(ledger.outstanding())
    assert len(trained) == len(set(trained))
    assert fates["trained"] - len(trained) in (0, settings.grpo.batch_groups)  # a step that was not saved when it ended
    assert max(at - u for _, u, at in weights) <= settings.grpo.max_staleness
    return fates


def run(wishes: Sequence[int], *, seconds: float) -> list[tuple[int, float]]:
    """Groups settled per second by number of workers."""
    settings = config(wishes[0])
    with tempfile.TemporaryDirectory(prefix="spct-elastic-") as place:
        folder = Path(place)
        with (
            Cluster(settings, run_id="elastic", folder=folder, model="", gpus=0) as cluster,
            fake_crew(cluster, settings, folder) as crew,
        ):
            watcher = Watcher(crew, wishes, seconds)
            watcher.start()
            with suppress(Enough):
                training(settings, crew, folder, Until(watcher)).run()
            print(json.dumps(verify(crew, settings, folder)))
    return watcher.rates


if __name__ == "__main__":
    wanted = [int(word) for word in sys.argv[1:]] or [1, 6, 2]
    measured = run(wanted, seconds=10.0)
    first = measured[0][1] / measured[0][0]
    for workers, rate in measured:
        print(f"{workers} workers: {rate:.1f} groups/s, {rate / workers / first:.2f} of the first worker's rate each")
