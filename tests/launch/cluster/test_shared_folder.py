"""Whether every node sees the run's folder: the probe with fake nodes. On two nodes of a real Ray: test_gpu_nodes.py."""

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
