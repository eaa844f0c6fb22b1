"""A Ray cluster with an autoscaler, under the real driver with fake engines: more workers bring nodes with them, a node that
vanishes is replaced, and idle nodes go.

    python tests/chaos/autoscaler.py                   (make chaos)

Ray's own fake provider starts a raylet where a real one would rent a machine; all else of the autoscaler is a cluster's.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import ray

from buffer.server import EmbeddedServer
from tests.chaos.elastic import Meter, play
from tests.chaos.nodes import QUICK, STORE, environment, settings
from tests.launch.cluster.ray_head import free_ports
from tests.launch.whole_run import kill_mentioning, mentioning

HEAD = "f" * 51 + "00000"  # the provider knows the head by this id
IDLE_MIN = 0.2  # minutes after which a node that nobody uses goes


def cluster_config(gcs: str) -> dict[str, Any]:
    """At most four nodes with room for one worker each, none at the start."""
    worker = {"resources": {"CPU": 1, "rollout": 1, "object_store_memory": STORE}, "node_config": {}, "min_workers": 0}
    nothing: dict[str, Any] = {
        name: []
        for name in (
            "initialization_commands",
            "setup_commands",
            "head_setup_commands",
            "worker_setup_commands",
            "head_start_ray_commands",
            "worker_start_ray_commands",
            "cluster_synced_files",
            "rsync_exclude",
            "rsync_filter",
        )
    }
    return nothing | {
        "cluster_name": "spct",
        "max_workers": 4,
        "idle_timeout_minutes": IDLE_MIN,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "disable_node_updaters": True,
            "gcs_address": gcs,
            "launch_multiple": True,
            "head_node_id": HEAD,
        },
        "head_node_type": "ray.head.default",
        "auth": {"ssh_user": "nobody"},
        "file_mounts": {},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "ray.worker.rollout": worker | {"max_workers": 4},
        },
    }


@contextmanager
def ray_cluster(folder: Path) -> Iterator[str]:
    """A head with an autoscaler and no room for workers; its address."""
    os.environ |= environment(folder) | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # the head is found by the machine's address
    host = ray.util.get_node_ip_address()
    (port,) = free_ports(1)
    address = f"{host}:{port}"
    (folder / "cluster.json").write_text(json.dumps(cluster_config(address)))
    ids = {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}  # of the head alone
    switches = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    head = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        f"--port={port}",
        "--num-cpus=2",
        "--include-dashboard=false",
        f"--object-store-memory={STORE}",
        f"--temp-dir={folder / 'ray'}",
        f"--autoscaling-config={folder / 'cluster.json'}",
        f"--system-config={json.dumps(QUICK)}",
        "--block",
    ]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(head, env=os.environ | ids | switches, stdout=log, stderr=log, start_new_session=True)
    try:
        await_port(host, port, process)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        kill_mentioning(f"{folder}/ray")  # the nodes that it brought, and what they left


def await_port(host: str, port: int, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the head does not listen at {host}:{port}; it ended with {process.poll()}") from None
            time.sleep(0.1)


def raylets(folder: Path) -> list[int]:
    """The nodes below `folder`, in the order in which they came."""
    return sorted(pid for pid, line in mentioning(f"{folder}/ray").items() if "/raylet " in line)


def demands(meter: Meter, folder: Path) -> list[tuple[str, int]]:
    """1 worker, then 3, a node killed, then 1 again; how many nodes there were (the head not counted)."""
    nodes: list[tuple[str, int]] = []

    def phase(name: str, workers: int) -> None:
        meter.measure(name, workers=workers)
        nodes.append((name, len(raylets(folder)) - 1))

    phase("1 worker", 1)
    meter.set_target(3)
    phase("3 workers", 3)
    os.kill(raylets(folder)[-1], signal.SIGKILL)
    phase("a node killed", 2)
    phase("it was replaced", 3)
    meter.set_target(1)
    time.sleep(60 * IDLE_MIN + 15)
    phase("1 worker again", 1)
    return nodes


def run() -> list[tuple[str, int, float]]:
    """(phase, nodes, groups a second)."""
    counted: list[tuple[str, int]] = []
    with (
        tempfile.TemporaryDirectory(prefix="spct-a-") as place,
        EmbeddedServer(Path(place) / "redis", port=free_ports(1)[0]) as server,
        ray_cluster(Path(place)) as address,
    ):
        rates = play(settings(address, server.url), Path(place), lambda meter: counted.extend(demands(meter, Path(place))))
    return [(phase, nodes, rate) for (phase, nodes), (_, rate) in zip(counted, rates, strict=True)]


if __name__ == "__main__":
    for phase, nodes, rate in run():
        print(f"{phase}: {nodes} nodes, {rate:.1f} groups/s")
