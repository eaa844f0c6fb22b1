"""Several Ray nodes on one machine, under the real driver with fake engines: nodes join with workers, one is killed, one comes.

    python tests/chaos/nodes.py                        (make chaos)

A node is a raylet with all that is on it; SIGKILL takes both, as when a preemptible machine vanishes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.wishes import wish_rollouts
from configs.schema import Config
from launch.cluster import Cluster
from launch.ray_session import ROOT
from learner.engine import free_port
from tests.chaos.crew import FakeCrew, fake_crew, training
from tests.chaos.elastic import Enough, Until, config, settled, verify

STORE = 80 << 20
QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
    "health_check_timeout_ms": 2000,
}  # a node is found dead in about 3 s, not 15


class Meter:
    """How many groups a second are settled, in one phase after another."""

    def __init__(self, crew: FakeCrew) -> None:
        self.crew = crew
        self._ledger = Ledger(crew.redis, crew.address.run_id)
        self.rates: list[tuple[str, float]] = []
        self.done = False

    def wish(self, workers: int) -> None:
        wish_rollouts(self.crew.redis, self.crew.address.run_id, workers)

    def measure(self, phase: str, *, workers: int, seconds: float = 4.0, timeout_s: float = 90.0) -> None:
        """Wait until so many workers are at work, then count for `seconds`."""
        deadline = time.monotonic() + timeout_s
        while len(self.crew.rollouts) != workers:
            if time.monotonic() > deadline:
                raise AssertionError(f"{phase}: {len(self.crew.rollouts)} workers after {timeout_s:.0f} s, not {workers}")
            time.sleep(0.1)
        time.sleep(1.0)
        before, began = settled(self._ledger), time.monotonic()
        time.sleep(seconds)
        self.rates.append((phase, (settled(self._ledger) - before) / (time.monotonic() - began)))


def changes(meter: Meter, nodes: Any) -> None:
    """1 node, then 3, then one is killed, then another comes."""

    def add() -> Any:
        return nodes.add_node(num_cpus=1, resources={"rollout": 1}, object_store_memory=STORE)

    meter.measure("1 node", workers=1)
    doomed = add()
    add()
    meter.wish(3)
    meter.measure("3 nodes", workers=3)
    doomed.all_processes["raylet"][0].process.kill()
    meter.measure("one of them killed", workers=2)
    add()
    meter.measure("another one has come", workers=3)


def environment(folder: Path) -> dict[str, str]:
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder),
    }  # fmt: skip


@contextmanager
def ray_cluster(folder: Path) -> Iterator[Any]:
    """A head without room for workers and one node with room for one."""
    os.environ |= environment(folder)
    from ray.cluster_utils import Cluster as RayCluster

    (folder / "ray").mkdir()
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": STORE, "temp_dir": str(folder / "ray")}
    nodes = RayCluster(initialize_head=True, head_node_args={**head, "_system_config": QUICK})
    try:
        nodes.add_node(num_cpus=1, resources={"rollout": 1}, object_store_memory=STORE)
        yield nodes
    finally:
        nodes.shutdown()


def settings(address: str, url: str) -> Config:
    plain = config(1)
    update = {
        "cluster": plain.cluster.model_copy(update={"address": address, "restarts": 20}),
        "redis": plain.redis.model_copy(update={"url": url}),
        "rollout": plain.rollout.model_copy(update={"resource": "rollout"}),
        "waits": plain.waits.model_copy(update={"pulse_s": 6.0}),
    }
    return plain.model_copy(update=update)


def play(chosen: Config, place: Path, script: Callable[[Meter], None]) -> list[tuple[str, float]]:
    """The rates of a run during which `script` is played, in the main thread: Ray starts nodes in no other."""
    with (
        Cluster(chosen, run_id="nodes", folder=place, model="", gpus=0) as cluster,
        fake_crew(cluster, chosen, place) as crew,
        ThreadPoolExecutor(1) as pool,
    ):
        meter = Meter(crew)
        driver = pool.submit(training(chosen, crew, place, Until(meter)).run)
        try:
            script(meter)
        finally:
            meter.done = True
            with suppress(Enough):
                driver.result(60)
        print(json.dumps(verify(crew, chosen, place)))
        return meter.rates


def run() -> list[tuple[str, float]]:
    with (
        tempfile.TemporaryDirectory(prefix="spct-n-") as place,
        EmbeddedServer(Path(place) / "redis", port=free_port("127.0.0.1")) as server,
        ray_cluster(Path(place)) as nodes,
    ):
        return play(settings(nodes.address, server.url), Path(place), lambda meter: changes(meter, nodes))


if __name__ == "__main__":
    for phase, rate in run():
        print(f"{phase}: {rate:.1f} groups/s")
