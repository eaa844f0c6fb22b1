"""Finds a run by its folder or id, and inspects it as it is now."""

from __future__ import annotations

from pathlib import Path

from buffer.server import access
from buffer.streams import Address, ServerError, connect, in_use
from configs.load import ConfigError, load
from configs.schema import Config
from launch.monitoring.diagnosis import COLD_START, Diagnosis, diagnose_run

ANSWER_S = 5.0  # for the server to answer


def locate_run(run: str) -> tuple[Path, Address]:
    """A run's folder, and locate_run its streams are. ConfigError when there is no such run, ServerError when it is not going
    on."""
    found = [folder for folder in (Path(run), Path("runs") / run) if (folder / "config.yaml").is_file()]
    if not found:
        raise ConfigError(f"--run {run}: no run there; name its folder, or its id under ./runs")
    folder = found[0].resolve()
    url = load(folder / "config.yaml").redis.url
    try:
        return folder, Address(url or access(folder / "redis"), folder.name)
    except ValueError as error:
        raise ConfigError(f"--run {run}: not the folder of a run: {error}") from None


def inspect_run(address: Address, config: Config) -> Diagnosis:
    """The run as it is now: its own streams, or those of its cold start. ServerError when nothing of it lives."""
    run_id = address.run_id
    with connect(address, timeout_s=ANSWER_S) as client:
        stage = next((name for name in (run_id, run_id + COLD_START) if in_use(client, name)), None)
        if stage is None:
            raise ServerError(f"run {run_id} has no streams at {address.public_url}: it is starting, or not going on")
        found = diagnose_run(client, stage, config)
    if found.snapshot.failure:
        raise ServerError(found.snapshot.failure)
    if not found.snapshot.heartbeats:
        raise ServerError(f"run {run_id} is between two stages, or not going on: no process of it has a heartbeat")
    return found
