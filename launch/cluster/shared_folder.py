"""Whether all nodes of a cluster see the run's folder: checkpoints, data sets and stacks are paths on every node.

driver ─ writes a token ─▶ run folder ◀─ reads it, writes it back ─ one small task on every node
"""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from buffer import files
from configs.load import ConfigError
from launch.cluster import calls, ray_session
from launch.cluster.failures import CallFailed

PREFIX = ".shared-folder-"
SETTLE_S = 10.0  # in which a network file system shows the driver what another machine wrote


def require_shared(folder: Path, *, limit_s: float) -> None:
    """Probe every node, where there are several.

    Raises:
        ConfigError: It names the nodes that do not see the folder, or do not answer within `limit_s`, and the remedy.
    """
    nodes = {
        str(node["NodeID"]): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray_session.alive_nodes()
    }
    if len(nodes) == 1:
        return
    token = secrets.token_hex(16)
    file = folder / f"{PREFIX}{token}"
    files.write(file, token)
    try:
        probes = {_probe(node, file, token): node for node in nodes}
        blind = _nodes_without_folder(probes, file, limit_s)
    finally:
        for path in folder.glob(f"{file.name}*"):
            path.unlink(missing_ok=True)
    if blind:
        raise ConfigError(
            f"run.dir: {folder} is not shared by all nodes of the cluster, {', '.join(sorted(nodes[node] for node in blind))}"
            " cannot read and write what the driver wrote there: give a run.dir on a file system that all nodes mount at"
            " this path"
        )


def echo(file: Path, token: str, node: str) -> bool:
    """Runs on a node: write back what the driver wrote. Returns whether it was there."""
    if not file.is_file() or file.read_text(encoding="utf-8") != token:
        return False
    files.write(answer_file(file, node), token)
    return True


def answer_file(file: Path, node: str) -> Path:
    """Returns where a node writes the token back."""
    return file.with_name(f"{file.name}-{node}")


def _probe(node: str, file: Path, token: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(echo).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0).remote(file, token, node)


def _nodes_without_folder(probes: Mapping[Any, str], file: Path, limit_s: float) -> set[str]:
    """Returns the nodes whose answer the driver does not find in the folder."""
    ready, _ = ray.wait(list(probes), num_returns=len(probes), timeout=limit_s)
    wrote = {probes[ref] for ref in ready if _wrote(ref)}
    deadline = time.monotonic() + SETTLE_S
    while (unseen := {node for node in wrote if not answer_file(file, node).is_file()}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return (set(probes.values()) - wrote) | unseen


def _wrote(ref: Any) -> bool:
    try:
        return bool(calls.values([ref])[0])
    except CallFailed:  # it may not write there, or the node is gone
        return False
