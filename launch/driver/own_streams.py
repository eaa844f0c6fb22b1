"""Whether the streams on the Redis server are this run's own, before anything is written there."""

from pathlib import Path

from buffer.heartbeat import last_heartbeats
from buffer.streams import Address, connect, in_use
from configs.load import ConfigError
from configs.schema import Config
from launch.monitoring.diagnosis import COLD_START


def require_own_streams(config: Config, address: Address, folder: Path, *, continued: bool) -> None:
    """Check the run's namespaces.

    Args:
        config: The run's.
        address: Of the run's streams.
        folder: The run's.
        continued: The folder holds a run that was cut off, and that goes on.

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
        drivers = [last["driver"] for name in names if "driver" in (last := last_heartbeats(client, name))]
    # An embedded server has one driver: another one would not have been able to start it.
    for driver in drivers if config.redis.url else ():
        if driver.age_s < config.waits.heartbeat_s:
            raise ConfigError(
                f"--resume: the run goes on, the last heartbeat of its driver (process {driver.pid} on {driver.host}) is"
                f" {driver.age_s:.0f} s old; if it was killed just now, wait {config.waits.heartbeat_s:.0f} s"
            )
