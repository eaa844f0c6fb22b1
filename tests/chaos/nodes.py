"""Several Ray nodes on one machine, under the real driver with fake engines: nodes join with workers, one is killed, one comes.

    python tests/chaos/nodes.py                        (make chaos)

A node is a raylet with all that is on it; SIGKILL takes both, as when a preemptible machine vanishes.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buffer.server import EmbeddedServer
from configs.schema import Config
from launch.cluster.ray_session import ROOT
from tests.chaos.elastic import Meter, config, play
from tests.launch.cluster.ray_head import free_ports

STORE = 80 << 20
QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
    "health_check_timeout_ms": 2000,
}  # a node is found dead in about 3 s, not 15


def changes(meter: Meter, nodes: Any) -> None:
    """1 node, then 3, then one is killed, then another comes."""

    def add() -> Any:
        return nodes.add_node(num_cpus=1, resources={"rollout": 1}, object_store_memory=STORE)

    meter.measure("1 node", workers=1)
    doomed = add()
    add()
    meter.set_target(3)
    meter.measure("3 nodes", workers=3)
    doomed.all_processes["raylet"][0].process.kill()
    meter.measure("one of them killed", workers=2)
    add()
    meter.measure("another one has come", workers=3)


def environment(folder: Path) -> dict[str, str]:
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(folder),
    }


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
        "waits": plain.waits.model_copy(update={"heartbeat_s": 6.0}),
    }
    return plain.model_copy(update=update)


def run() -> list[tuple[str, float]]:
    with (
        tempfile.TemporaryDirectory(prefix="spct-n-") as place,
        EmbeddedServer(Path(place) / "redis", port=free_ports(1)[0]) as server,
        ray_cluster(Path(place)) as nodes,
    ):
        return play(settings(nodes.address, server.url), Path(place), lambda meter: changes(meter, nodes))


if __name__ == "__main__":
    for phase, rate in run():
        print(f"{phase}: {rate:.1f} groups/s")
