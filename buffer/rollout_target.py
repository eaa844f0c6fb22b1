"""How many rollout workers a run should have: set by a person or by the run itself, read by the driver."""

import redis

from buffer.connection import Namespace

TARGET, NUMBERS = "rollout-target", "workers"


def set_rollout_target(client: redis.Redis, run_id: str, workers: int) -> None:
    """Set the number of rollout workers. ValueError unless it is at least 1."""
    if workers < 1:
        raise ValueError(f"{workers} rollout workers: expected 1 or more")
    space = Namespace(client, run_id)
    space.command("SET", space.key(TARGET), workers)


def rollout_target(client: redis.Redis, run_id: str) -> int | None:
    """Return the number of rollout workers that was set last; None if none was set."""
    space = Namespace(client, run_id)
    value = space.command("GET", space.key(TARGET))
    return int(value) if value is not None else None


def next_worker(client: redis.Redis, run_id: str) -> int:
    """Return the number of a new rollout worker, 0 at first. No number is used twice in a run, even after a resume."""
    space = Namespace(client, run_id)
    return int(space.command("INCR", space.key(NUMBERS))) - 1
