"""Finds a run by its folder or id, and inspects it as it is now."""

from pathlib import Path

from buffer.named_server import require_named_server
from buffer.server import driver_url
from buffer.streams import Address, ServerError, connect, in_use
from configs.load import ConfigError, load
from configs.paths import find_run, run_places
from configs.schema import Config
from launch.monitoring.diagnosis import COLD_START, Diagnosis, diagnose_run

ANSWER_S = 5.0  # for the server to answer


def locate_folder(run: str) -> Path:
    """Returns a run's folder. ConfigError when there is no such run.

    Args:
        run: the run's folder, or its id under `runs` (see `run_places`).
    """
    folder = find_run(run)
    if folder is None:
        places = ", ".join(map(str, run_places(run)))
        raise ConfigError(f"--run {run}: no run there; name its folder, or its id under ./runs; looked for in {places}")
    return folder.resolve()


def locate_run(run: str) -> tuple[Path, Address]:
    """Returns a run's folder, and the address of its streams.

    Args:
        run: as of `locate_folder`.

    Raises:
        ConfigError: there is no such run.
        ServerError: the run is not running, or its server is not joined (see `require_named_server`).
    """
    folder = locate_folder(run)
    url = load(folder / "config.yaml").redis.url
    if url:
        require_named_server(url, folder)
    try:
        return folder, Address(url or driver_url(folder / "redis"), folder.name)
    except ValueError as error:
        raise ConfigError(f"--run {run}: not the folder of a run: {error}") from None


def inspect_run(address: Address, config: Config) -> Diagnosis:
    """Diagnose the run as it is now, by its own streams or by those of its cold start.

    Raises:
        ServerError: no streams or no heartbeats of the run exist.
    """
    run_id = address.run_id
    with connect(address, timeout_s=ANSWER_S) as client:
        stage = next((name for name in (run_id, run_id + COLD_START) if in_use(client, name)), None)
        if stage is None:
            raise ServerError(f"run {run_id} has no streams at {address.public_url}: it is starting, or not running")
        diagnosis = diagnose_run(client, stage, config)
    if diagnosis.snapshot.failure:
        raise ServerError(diagnosis.snapshot.failure)
    if not diagnosis.snapshot.heartbeats:
        raise ServerError(f"run {run_id} is between two stages, or not running: no process of it has a heartbeat")
    return diagnosis
