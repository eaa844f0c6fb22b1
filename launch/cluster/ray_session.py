"""The Ray of a run: the cluster that the config names, or that it runs in as a job; else one of its own, on loopback and with
a token."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants
from ray._private.state import state

from configs.load import ConfigError
from launch.setup.environment import variable

KILLED_S = 30.0  # a process that was killed frees its memory first, at the lowest priority
ROOT = Path(__file__).resolve().parents[2]


def cluster_address(address: str) -> str | None:
    """Returns the cluster to join, None where there is none: `cluster.address`, or for "auto" that of the job, from Ray."""
    return variable("RAY_ADDRESS") or None if address == "auto" else address


def join(address: str, *, timeout_s: float) -> None:
    """Connect to a cluster. ConfigError when nothing listens there, or no Ray does; else Ray would try for ten minutes."""
    if address != "auto":
        _require_listener(address, timeout_s)
    ray_constants.NUM_REDIS_GET_RETRIES = 1  # private; one try takes 40 s
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).strip()
        raise ConfigError(f"cluster.address: no Ray to join at {address} ({why}): is its head running?") from error


def start_own(folder: Path, object_store_bytes: int) -> list[psutil.Process]:
    """Start Ray on loopback only and with a token: anyone who can reach a Ray can execute code there.

    All processes must agree on these switches, so they are set before the first one starts. Two of them Ray has read in this
    process when it was imported: one is set in the module too (which is private, so the result is checked below), and
    `ray.init` itself turns tokens on where RAY_AUTH_MODE is not set. It finds a token in the environment, and so writes none
    into the home folder. With PYTHONPATH actors unpickle our classes wherever the driver was started (in a job, Ray's
    working_dir does that).

    Args:
        folder: A short path, as Ray's socket names have at most 107 bytes, in a folder that only this user can enter: Ray makes
            its own folders writable for everybody, and neither side of a socket in them asks who the other one is.
        object_store_bytes: Size of the object store.

    Returns:
        Its daemons: every other process of this Ray descends from them.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.pop("RAY_AUTH_MODE", None)
    os.environ["RAY_AUTH_TOKEN"] = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = psutil.Process().children()
    started: Any = ray.init(
        address="local",
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        object_store_memory=object_store_bytes,
        _temp_dir=str(folder),
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    if not started.address_info["gcs_address"].startswith("127.0.0.1:") or os.environ.get("RAY_AUTH_MODE") != "token":
        raise RuntimeError("this version of Ray would listen to other machines, or without a token: see start_own")
    return [child for child in psutil.Process().children() if child not in before]


def process_tree(daemons: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Returns the daemons and their living descendants. Call it before the daemons end: a process that outlives its parent
    is no longer listed as its child."""
    processes = []
    for daemon in daemons:
        with suppress(psutil.NoSuchProcess):
            processes += [daemon, *daemon.children(recursive=True)]
    return processes


def await_exit_or_kill(processes: Sequence[psutil.Process], *, grace_s: float) -> None:
    """Wait until all have ended: `ray.shutdown` waits for none, and a worker that holds gigabytes takes its time. Those that
    live after `grace_s` get SIGKILL."""
    for process in _await_end(processes, grace_s):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _await_end(processes, KILLED_S)


def _await_end(processes: Iterable[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Returns those that run after `limit_s`. A zombie has ended, although nobody may reap it (as in a container)."""
    deadline = time.monotonic() + limit_s
    while left := [process for process in processes if _runs(process)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return []


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def alive_nodes() -> list[dict[str, Any]]:
    """Returns what Ray tells about each node that lives."""
    return [node for node in ray.nodes() if node["Alive"]]


def is_one_machine() -> bool:
    """Returns whether the cluster has one node, and no autoscaler that could add some."""
    return len(alive_nodes()) == 1 and state.get_max_resources_from_cluster_config() is None


def check_room(*, gpus: int, embedded_redis: bool) -> None:
    """Refuse (ConfigError) what the cluster could never place, instead of waiting for it: neither on the nodes that it has,
    nor on those that its autoscaler may add."""
    scales = state.get_max_resources_from_cluster_config()  # None without an autoscaler
    nodes = alive_nodes()
    if embedded_redis and (len(nodes) > 1 or scales is not None):
        many = f"has {len(nodes)} nodes" if len(nodes) > 1 else "adds nodes on demand"
        raise ConfigError(
            f"the Ray cluster {many}, and the embedded Redis is reached from one only:"
            " set redis.url to a server that all nodes reach"
        )
    there = max(int(ray.cluster_resources().get("GPU", 0)), int((scales or {}).get("GPU", 0)))
    if gpus > there:
        raise ConfigError(
            f"{gpus} GPUs are needed at a time, the cluster has {there} at most: lower rollout.workers, learner.ranks or"
            " meta_rm.ranks"
        )


def _require_listener(address: str, timeout_s: float) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ConfigError(
            f"cluster.address {address!r}: expected auto or HOST:PORT of the head, as `ray start --head` prints it"
        )
    if "://" in host:
        raise ConfigError(
            f"cluster.address {address!r}: a run's driver lives in the cluster: give HOST:PORT of its head there, or use"
            " `ray job submit`"
        )
    try:
        socket.create_connection((host, int(port)), timeout_s).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cluster.address: nothing listens at {address} ({error}): is its head running?") from None
