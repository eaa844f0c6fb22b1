"""Whether the streams on the Redis server are this run's own, before anything is written there."""

import time
from collections.abc import Sequence
from pathlib import Path

from buffer.heartbeat import LastHeartbeat, last_heartbeats
from buffer.stream_state import Client
from buffer.streams import Address, connect, in_use
from configs.load import ConfigError
from configs.schema import Config
from launch.monitoring.console import ShowActivity, show_nothing
from launch.monitoring.diagnosis import COLD_START

LOOK_S = 0.5  # between two looks at heartbeats


def require_own_streams(
    config: Config, address: Address, folder: Path, *, continued: bool, show: ShowActivity = show_nothing
) -> None:
    """Check the run's namespaces.

    Args:
        config: The run's.
        address: Of the run's streams.
        folder: The run's.
        continued: The folder holds a run that was cut off, and that goes on.
        show: Gets what is waited for, if anything is.

    Raises:
        ConfigError: The server holds a run of this id that is not this folder's, or whose driver is alive; or it has lost the
            streams of a run that is to be resumed.
    """
    with connect(address, timeout_s=config.waits.server_s) as client:
        names = (address.run_id, address.run_id + COLD_START)
        known = [name for name in names if in_use(client, name)]
        if known and not continued:
            raise ConfigError(
                f"run.id: {address.run_id} is in use on the Redis server; choose another run.id, or go on with it:"
                f" --resume {folder}"
            )
        if address.run_id not in known and (folder / "checkpoints").exists():
            raise ConfigError(
                f"--resume: the streams of {address.run_id} are no longer on the Redis server, so it is not known which prompts"
                f" were issued; start a new run from {folder / 'checkpoints' / 'policy'}"
            )
        if config.redis.url:  # an embedded server has one driver: another one would not have been able to start it
            _require_no_driver(client, names, silent_s=config.waits.heartbeat_s, show=show)


def _require_no_driver(client: Client, names: Sequence[str], *, silent_s: float, show: ShowActivity) -> None:
    """Wait until the last heartbeat of each driver is `silent_s` old, as that of one that was killed will be; ConfigError when
    there is a newer one. A driver that could end by itself has left none."""
    seen: dict[str, float] = {}
    deadline = time.monotonic() + 2 * silent_s  # should the server's clock stand still
    while alive := _drivers(client, names, silent_s):
        for name, driver in alive.items():
            if driver.age_s < seen.get(name, 0.0) or time.monotonic() > deadline:
                raise ConfigError(
                    f"--resume: the run goes on under another driver, process {driver.pid} on {driver.host}, which sends"
                    " heartbeats (see launch/status.py)"
                )
            seen[name] = driver.age_s
        show(f"waiting up to {silent_s:.0f} s for a heartbeat of the driver before")
        time.sleep(LOOK_S)


def _drivers(client: Client, names: Sequence[str], silent_s: float) -> dict[str, LastHeartbeat]:
    """Returns the last heartbeat of the driver of each namespace, where it is not yet `silent_s` old."""
    last = {name: last_heartbeats(client, name).get("driver") for name in names}
    return {name: driver for name, driver in last.items() if driver is not None and driver.age_s < silent_s}
