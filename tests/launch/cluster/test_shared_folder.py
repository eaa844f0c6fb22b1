"""Whether every node sees the run's folder: the probe with fake nodes, and on two nodes of a real Ray."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from launch.cluster import calls, ray_session, shared_folder
from launch.cluster.shared_folder import echo, require_shared
from tests.launch.cluster.local_ray import LocalRay

Probe = Callable[[Path, str, str], bool]


def elsewhere(file: Path, token: str, node: str) -> bool:
    """As on a node with a disk of its own: the driver's file is not there."""
    return echo(file.parent / "another disk" / file.name, token, node)


def unwritable(file: Path, token: str, node: str) -> bool:
    raise PermissionError("read-only file system")


def writes_elsewhere(file: Path, token: str, node: str) -> bool:
    """As where the folder is a copy of the driver's: it holds the file, but what is written there stays there."""
    return True


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Probe]]:
    """What a probe does on each of the nodes."""
    probes: dict[str, Probe] = {}

    def alive() -> list[dict[str, Any]]:
        return [
            {"NodeID": node, "NodeManagerHostname": f"host-{node}", "NodeManagerAddress": f"10.0.0.{i}"}
            for i, node in enumerate(probes)
        ]

    def probe(node: str, file: Path, token: str) -> Future[bool]:
        answer: Future[bool] = Future()
        try:
            answer.set_result(probes[node](file, token, node))
        except OSError as error:
            answer.set_exception(error)
        return answer

    monkeypatch.setattr(calls, "ray", LocalRay)
    monkeypatch.setattr(shared_folder, "ray", LocalRay)
    monkeypatch.setattr(shared_folder, "SETTLE_S", 0.2)
    monkeypatch.setattr(ray_session, "alive_nodes", alive)
    monkeypatch.setattr(shared_folder, "_probe", probe)
    return probes


def test_a_folder_that_all_nodes_share_passes_and_nothing_stays_in_it(nodes: dict[str, Probe], tmp_path: Path) -> None:
    nodes.update(a=echo, b=echo)
    require_shared(tmp_path, limit_s=1)
    assert list(tmp_path.iterdir()) == []


def test_a_single_node_is_not_probed(nodes: dict[str, Probe], tmp_path: Path) -> None:
    nodes.update(a=unwritable)
    require_shared(tmp_path, limit_s=1)


@pytest.mark.parametrize("blind", [elsewhere, unwritable, writes_elsewhere])
def test_nodes_that_do_not_share_it_are_named_with_the_remedy(blind: Probe, nodes: dict[str, Probe], tmp_path: Path) -> None:
    nodes.update(a=echo, b=blind, c=blind)
    with pytest.raises(ConfigError) as caught:
        require_shared(tmp_path, limit_s=1)
    text = str(caught.value)
    assert f"run.dir: {tmp_path} is not shared by all nodes" in text
    assert "host-b (10.0.0.1), host-c (10.0.0.2) cannot" in text
    assert "host-a" not in text
    assert "give a run.dir on a file system that all nodes mount" in text
    assert list(tmp_path.iterdir()) == []


DRIVER = """
import json, os, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from configs.load import ConfigError
from launch.cluster import shared_folder

STORE = 80 << 20
nodes = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE})
nodes.add_node(num_cpus=1, object_store_memory=STORE)
ray.init(address=nodes.address, log_to_driver=False)
folder = Path(sys.argv[1])
try:
    shared_folder.require_shared(folder, limit_s=60)
    print("shared", sorted(path.name for path in folder.iterdir()))
    echo = shared_folder.echo
    shared_folder.echo = lambda file, token, node: False  # as where the folder is not there
    try:
        shared_folder.require_shared(folder, limit_s=60)
    except ConfigError as error:
        print(error)
finally:
    ray.shutdown()
    nodes.shutdown()
"""


@pytest.mark.slow
def test_it_asks_every_node_of_a_real_cluster(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"PYTHONPATH": str(Path(__file__).parents[3]), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    done = subprocess.run(command, env=env, timeout=180, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "shared []" in done.stdout
    assert len(re.findall(r"\w+ \(127\.0\.0\.1\)|\S+ \([\d.]+\)", done.stdout)) >= 2, done.stdout
