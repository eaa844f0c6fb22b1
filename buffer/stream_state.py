"""The state of the streams: what waits, and which worker holds what. Reading it claims nothing and renews nothing.

every stream, for each of its consumer groups:   waiting ─claim─▶ pending (owner, age) ─▶ done, or a dead letter
"""

from dataclasses import dataclass
from typing import Any

import redis

from buffer.connection import Namespace
from buffer.streams import DEAD, EXPERIENCE, PROMPTS, ROLLOUTS, waiting

# Entries listed per stream, the oldest first. The credit of any sensible run allows fewer prompts and rollouts than that.
# Experience is kept until it is in a checkpoint, and only its oldest entries matter here.
LISTED = {PROMPTS: 4096, ROLLOUTS: 4096, EXPERIENCE: 16}
STREAMS = tuple(LISTED)
REASONS = 16  # dead letters whose reason is quoted
Client = redis.Redis  # for packages that may not import redis
GIVEN_BACK = "given-back"  # no worker: leave.lua makes it the owner of entries that were given back


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An entry that a worker has claimed and not finished."""

    id: str
    """Id of the entry."""
    group: int | None
    """Number of its rollout group; None if the entry has none, or is gone."""
    owner: str
    """Name of the worker."""
    age_s: float
    """Seconds since it was claimed or renewed."""
    since_s: float
    """Seconds since it was added to the stream."""
    deliveries: int
    """How often it was claimed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """The state of a stream for one of its consumer groups."""

    stream: str
    """Name of the stream."""
    reader: str
    """Name of the consumer group."""
    waiting: int = 0
    """Entries that are not claimed."""
    oldest_s: float = 0.0
    """Seconds since the oldest of them was added to the stream; 0 if there is none."""
    unclaimed: tuple[int | None, ...] = ()
    """Their rollout groups, as far as they are listed (`LISTED`)."""
    pending: int = 0
    """Entries that are claimed and not finished."""
    claims: tuple[Claim, ...] = ()
    """The oldest of them."""
    dead: int = 0
    """Dead letters from this stream, of all its consumer groups."""


def read_queues(client: Client, run_id: str) -> list[Queue]:
    """Return the state of each stream for each of its consumer groups, in the order of the loop.

    Raises:
        ServerError: The run has no streams.
    """
    space = Namespace(client, run_id)
    counts = space.command("HMGET", space.key("outcomes"), *(f"dead:{stream}" for stream in STREAMS))
    return [
        _queue(space, stream, reader, waiting(client, run_id, stream, reader), int(dead or 0))
        for stream, dead in zip(STREAMS, counts, strict=True)
        for reader in _readers(space, stream)
    ]


def newest_dead_reasons(client: Client, run_id: str) -> list[str]:
    """Return the reasons of the newest dead letters, up to REASONS, newest first."""
    return [reason.decode(errors="replace") for reason in Namespace(client, run_id).run("dead_reasons", [DEAD], REASONS)]


def _readers(space: Namespace, stream: str) -> list[str]:
    return [info["name"].decode() for info in space.command("XINFO GROUPS", space.key(stream))]


def _queue(space: Namespace, stream: str, reader: str, unread: int, dead: int) -> Queue:
    now, pending, rows, unclaimed = space.run("claims", [stream], reader, LISTED[stream])
    listed = [_claim(row, now) for row in rows]
    owned = tuple(claim for claim in listed if claim.owner != GIVEN_BACK)
    free = [claim for claim in listed if claim.owner == GIVEN_BACK]
    ages = [claim.since_s for claim in free] + [_since_s(id_, now) for id_, _ in unclaimed]
    return Queue(
        stream=stream,
        reader=reader,
        waiting=unread + len(free),
        oldest_s=max(ages, default=0.0),
        unclaimed=(*(claim.group for claim in free), *(_number(group) for _, group in unclaimed)),
        pending=pending - len(free),
        claims=owned,
        dead=dead,
    )


def _claim(row: Any, now: int) -> Claim:
    id_, owner, idle_ms, deliveries, group = row
    return Claim(
        id=id_.decode(),
        group=_number(group),
        owner=owner.decode(),
        age_s=idle_ms / 1000,
        since_s=_since_s(id_, now),
        deliveries=deliveries,
    )


def _number(group: bytes) -> int | None:
    return int(group) if group.isdigit() else None


def _since_s(id_: bytes, now: int) -> float:
    """Return an entry's age: its id begins with the time when it was added, in ms by the server's clock."""
    return max(0.0, (now - int(id_.split(b"-")[0])) / 1000)
