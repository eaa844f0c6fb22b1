"""Changes the number of rollout workers of a running run; while it trains, its driver follows within seconds.

    python launch/scale.py --run runs/mine --rollouts 8

More: new workers start, pull the current weights and join. Fewer: the newest workers finish their groups or give them back,
and leave. The target is a key on the run's Redis server and holds until the next one, also when the run is resumed. Set during
the cold start, it takes effect when training begins.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/scale.py` finds its siblings

from buffer.rollout_target import rollout_target, set_rollout_target
from buffer.streams import connect
from configs.load import ConfigError, load
from configs.schema import Config
from launch.cli import exit_status
from launch.monitoring.command import command
from launch.monitoring.help_text import HelpFormatter
from launch.monitoring.lookup import inspect_run, locate_run


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 the target is set, 2 there is no such run, or it is not running."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--run", required=True, help="the run's folder, or its id under ./runs")
    parser.add_argument("--rollouts", required=True, type=int, help="rollout workers to run, 1 or more")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: scale(arguments.run, arguments.rollouts))


def scale(run: str, rollouts: int) -> int:
    """Set the target and print it beside the one before. Returns the exit status."""
    if rollouts < 1:
        raise ConfigError(f"--rollouts {rollouts}: expected 1 or more; to end the run, stop its driver")
    folder, address = locate_run(run)
    config = load(folder / "config.yaml")
    require_in_bounds(rollouts, config)
    diagnosis = inspect_run(address, config)
    with connect(address) as client:
        before = rollout_target(client, address.run_id) or config.rollout.workers
        set_rollout_target(client, address.run_id, rollouts)
    training = diagnosis.snapshot.run_id == address.run_id
    when = "" if training else " when training begins: the cold start goes on as it is"
    print(f"rollout workers: {before} -> {rollouts} asked for{when}; the run says when they are at work")
    print(f"status     {command('status')} --run {shlex.quote(str(folder))}")
    return 0


def require_in_bounds(rollouts: int, config: Config) -> None:
    """ConfigError for a target that the run's autoscaler would move back within a step, or that has no place on one GPU."""
    if config.cluster.share_gpu and rollouts > 1:
        raise ConfigError(f"--rollouts {rollouts}: the run shares one GPU (cluster.share_gpu), which has room for one worker")
    low, high = max(1, config.rollout.autoscale_min), config.rollout.autoscale_max
    if high and not low <= rollouts <= high:
        raise ConfigError(
            f"--rollouts {rollouts}: the run scales itself between {low} and {high} workers (rollout.autoscale_min,"
            " rollout.autoscale_max): give a number between them; it goes on from there"
        )


if __name__ == "__main__":
    sys.exit(main())
