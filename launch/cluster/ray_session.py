"""The Ray of a run: the cluster that the config names, or that it runs in as a job; else one of its own, on loopback and with
a token."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import _raylet
from ray._private import parameter, ray_constants, services
from ray._private.state import state

from configs.load import ConfigError
from launch.cluster.failures import RunFailed
from launch.setup.environment import variable

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
    raylet: Any = _raylet  # whose stubs are not complete
    raylet.AuthenticationTokenLoader.instance().reset_cache()  # which holds the token of an earlier Ray of this process
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = psutil.Process().children()
    with _free_agent_port(), _own_process_groups(), _named_timeout():
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


@contextmanager
def _named_timeout() -> Iterator[None]:
    """Turn Ray's error of a start that took too long, a bare Exception, into a sentence."""
    try:
        yield
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        raise RunFailed(
            "Ray did not start within 30 s: the machine is too busy, or its memory is full; end what else runs there, try again"
        ) from error


@contextmanager
def _own_process_groups() -> Iterator[None]:
    """Start each of Ray's daemons in a process group of its own. A terminal, `timeout` and Slurm signal the whole group of the
    driver, and it needs its Ray to save what was learnt. (They still end with it, if it is killed: the kernel sees to that.)"""
    original = services.ConsolePopen
    services.ConsolePopen = partial(original, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = original


@contextmanager
def _free_agent_port() -> Iterator[None]:
    """Let the dashboard's agent listen on a port that is free. `ray.init` has no argument for it, and its default is that of
    every Ray: a head that is started later on this machine would have no agent, and `ray job submit` fails on it. With port 0
    Ray would wait at its start until the agent, which takes seconds to import, has chosen one. Should another process take the
    port first, the agent does without: nobody asks it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    original = parameter.RayParams
    parameter.RayParams = partial(original, dashboard_agent_listen_port=port)
    try:
        yield
    finally:
        parameter.RayParams = original


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
