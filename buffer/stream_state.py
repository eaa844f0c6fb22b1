"""What lies in the streams right now, and who holds it. Only looks: claims nothing, renews nothing.

every stream, as each of its consumer groups sees it:   waiting ─claim─▶ pending (owner, age) ─▶ done, or a dead letter
"""

from dataclasses import dataclass
from typing import Any

import redis

from buffer.connection import Namespace
from buffer.streams import DEAD, EXPERIENCE, PROMPTS, ROLLOUTS, waiting

# Entries listed of each stream, the oldest first. Of prompts and rollouts these are all that the credit allows, in any
# sensible run; experience is kept until it is in a checkpoint, and only its oldest entries tell anything.
LISTED = {PROMPTS: 4096, ROLLOUTS: 4096, EXPERIENCE: 16}
Client = redis.Redis  # for those who may not import redis
GIVEN_BACK = "given-back"  # owns, in leave.lua, what its worker gave back: nobody


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An entry that somebody has claimed and not finished.

    group: the rollout group's number; None when the entry does not say, or is gone. age_s: since it was claimed or
    renewed. since_s: since it came into the stream. deliveries: how often it was claimed.
    """

    id: str
    group: int | None
    owner: str
    age_s: float
    since_s: float
    deliveries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """A stream as the consumer group `reader` sees it.

    waiting: entries that nobody holds; oldest_s: since the oldest of them came into the stream, 0 when there is none;
    unclaimed: their groups' numbers, as far as they are listed. pending: entries that are held; claims: the oldest of
    them. dead: dead letters from this stream, whoever of its readers put them aside.
    """

    stream: str
    reader: str
    waiting: int = 0
    oldest_s: float = 0.0
    unclaimed: tuple[int | None, ...] = ()
    pending: int = 0
    claims: tuple[Claim, ...] = ()
    dead: int = 0


def read_queues(client: Client, run_id: str) -> list[Queue]:
    """Each stream with each of its consumer groups, in the order of the loop. ServerError when the run has no streams."""
    space = Namespace(client, run_id)
    flat = space.run("count_dead", [DEAD])
    dead = {stream.decode(): int(count) for stream, count in zip(flat[::2], flat[1::2], strict=True)}
    return [
        _queue(space, stream, reader, waiting(client, run_id, stream, reader), dead.get(stream, 0))
        for stream in (PROMPTS, ROLLOUTS, EXPERIENCE)
        for reader in _readers(space, stream)
    ]


def _readers(space: Namespace, stream: str) -> list[str]:
    return [info["name"].decode() for info in space.command("XINFO GROUPS", space.key(stream))]


def _queue(space: Namespace, stream: str, reader: str, unread: int, dead: int) -> Queue:
    now, pending, rows, unclaimed = space.run("claims", [stream], reader, LISTED[stream])
    listed = [_claim(row, now) for row in rows]
    held = tuple(claim for claim in listed if claim.owner != GIVEN_BACK)
    free = [claim for claim in listed if claim.owner == GIVEN_BACK]
    ages = [claim.since_s for claim in free] + [_since_s(id_, now) for id_, _ in unclaimed]
    return Queue(
        stream=stream,
        reader=reader,
        waiting=unread + len(free),
        oldest_s=max(ages, default=0.0),
        unclaimed=(*(claim.group for claim in free), *(_number(group) for _, group in unclaimed)),
        pending=pending - len(free),
        claims=held,
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
    """An entry's id begins with the time when it was added, in ms by the server's clock."""
    return max(0.0, (now - int(id_.split(b"-")[0])) / 1000)
