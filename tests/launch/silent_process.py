"""The config of the run in conftest.py, and a process of it that sends no more heartbeats."""

import json
import time

from buffer import streams
from configs.load import load
from tests.buffer.run_by_hand import Run

CONFIG = load("tiny", ["grpo.batch_groups=2", "grpo.max_staleness=1", "waits.heartbeat_s=1", "redis.claim_timeout_s=60"])


def silence(run: Run, name: str, seconds: float = 30) -> None:
    """A process whose last heartbeat was so long ago."""
    last = {"host": "node-b", "pid": 4711, "activity": "roll out", "stuck_s": 0, "version": 0, "done": 1, "stacks": ""}
    run.client.hset(streams.key(run.run_id, "heartbeats"), name, f"{time.time() - seconds} {json.dumps(last)}")
