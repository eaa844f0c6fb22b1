"""What a person, or the run itself, wants changed while the run goes on; the driver sees to it."""

import redis

from buffer.connection import Namespace


def set_rollout_target(client: redis.Redis, run_id: str, workers: int) -> None:
    """Ask for this many rollout workers. ValueError unless there is at least one."""
    if workers < 1:
        raise ValueError(f"{workers} rollout workers: expected 1 or more")
    space = Namespace(client, run_id)
    space.command("SET", space.key("rollout-target"), workers)


def rollout_target(client: redis.Redis, run_id: str) -> int | None:
    """How many rollout workers were asked for last; None: nobody has asked."""
    space = Namespace(client, run_id)
    value = space.command("GET", space.key("rollout-target"))
    return int(value) if value is not None else None


def next_worker(client: redis.Redis, run_id: str) -> int:
    """The number of a new rollout worker, 0 at first; none is given twice in a run, also when the run is resumed."""
    space = Namespace(client, run_id)
    return int(space.command("INCR", space.key("workers"))) - 1
