"""A worker's side of the three streams: claim, renew, hand off, reclaim. The claims of a dead worker lapse to others.

    [prompts] -> rollout actors -> [rollouts] -> reward actors -> [experience] -> grpo, meta-rm

Every entry has two fields, `g`, the number of its rollout group, and `p`, the payload: a group can be settled even when its
payload cannot be read. `group` is always a rollout group here; a Redis consumer group is called `consumer_group`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from buffer.connection import REQUEST_S, Address, Namespace, ServerError, connect, key

__all__ = [
    "Address",
    "Consumer",
    "DeadLetter",
    "Entry",
    "ServerError",
    "connect",
    "dead_letters",
    "in_use",
    "key",
    "lengths",
    "remove",
    "setup",
    "waiting",
]

PROMPTS, ROLLOUTS, EXPERIENCE, DEAD = "prompts", "rollouts", "experience", "dead"
ROLLOUT, REWARD, GRPO, META_RM = "rollout", "reward", "grpo", "meta-rm"  # consumer groups
READERS = ((PROMPTS, ROLLOUT), (ROLLOUTS, REWARD), (EXPERIENCE, GRPO))  # a group's outcome depends on these alone
SWEEP_S = 1.0  # longest time between two searches for lapsed claims
PAGE = 100  # entries in one answer of the server
DEAD_KEPT = 200  # dead letters that are kept, the newest ones: they hold whole payloads

_Row = tuple[bytes, int, list[bytes]]  # id, deliveries, fields and values in turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A claimed stream entry."""

    id: str
    """Its id in the stream."""
    group: int
    """Number of its rollout group."""
    payload: bytes
    """The encoded message."""
    deliveries: int
    """How often it was claimed, this time included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """An entry that could not be used. The newest DEAD_KEPT are kept, and all are counted."""

    stream: str
    """The stream that it came from."""
    id: str
    """Its id there."""
    group: int | None
    """Number of its rollout group; None if the entry had none."""
    reason: str
    """Why it could not be used."""
    payload: bytes
    """Its payload."""


def setup(client: redis.Redis, run_id: str, *, meta_rm: bool) -> None:
    """Create the run's streams and consumer groups. Harmless when repeated.

    A consumer group reads from the stream's beginning. That of the meta-RM exists only if the run has a meta-RM, since
    `experience` is kept until every consumer group has acknowledged it (I4).
    """
    space = Namespace(client, run_id)
    for stream, consumer_group in (*READERS, (EXPERIENCE, META_RM)) if meta_rm else READERS:
        space.run("create_group", [stream], consumer_group)


def in_use(client: redis.Redis, run_id: str) -> bool:
    """Return whether the server has data of a run of this id. A new run then takes another id, or resumes that one."""
    space = Namespace(client, run_id)
    return bool(space.command("EXISTS", space.key(PROMPTS)))


def remove(client: redis.Redis, run_id: str) -> int:
    """Delete every key of the run, and no other key. Returns the number deleted."""
    Namespace(client, run_id)  # a checked run id holds no glob character
    keys = list(client.scan_iter(match=key(run_id, "*"), count=1000))
    return sum(int(client.unlink(name)) for name in keys)


class Consumer:
    """One worker in one consumer group of one stream.

    Args:
        client: A connection.
        run_id: The run.
        stream: The stream to claim from.
        consumer_group: The Redis consumer group.
        name: Name of this worker in it.
        claim_timeout_s: Seconds without renewal after which others may take a claim. None for a consumer that is alone in its
            consumer group (a learner): it regains its claims by `own_pending` under the same name.
        max_deliveries: An entry that is claimed more often kills its workers and goes to the dead letters. None: never.

    Attributes:
        incarnation: Set by a learner once `Ledger.recover` has returned it. Claims are refused (ServerError) as soon as there
            is a newer one.
    """

    def __init__(
        self,
        client: redis.Redis,
        run_id: str,
        stream: str,
        consumer_group: str,
        name: str,
        *,
        claim_timeout_s: float | None,
        max_deliveries: int | None = 5,
    ) -> None:
        if claim_timeout_s is not None and claim_timeout_s <= 0:
            raise ValueError(f"claim_timeout_s {claim_timeout_s}: expected more than 0, or None")
        self._space = Namespace(client, run_id)
        self._stream, self._consumer_group, self._name = stream, consumer_group, name
        self._timeout_s = claim_timeout_s
        self._sweep_s = SWEEP_S if claim_timeout_s is None else min(SWEEP_S, claim_timeout_s)
        self._max_deliveries = max_deliveries
        self._swept_at = time.monotonic()
        self._sweep_from = b"0-0"  # where the next look for lapsed claims begins: one looks at a part of them
        self.incarnation: int | None = None

    def claim(self, count: int, *, block_s: float, workers: int = 1) -> list[Entry]:
        """Claim up to `count` new entries, or entries whose claim has lapsed if there are none. Returns [] after `block_s`.

        Once per claim timeout, lapsed claims come first, so that they do not starve. They may be this worker's own: the
        caller skips ids that it still holds. Poison entries go to the dead letters instead.

        Args:
            count: Entries at most, at least 1.
            block_s: Seconds to wait for one.
            workers: How many share the stream (not `experience`, which keeps what is acknowledged). Of several each holds up
                to a fair share, ceil(entries not handed on / workers), and takes more only one by one, of what has lain for a
                second or has lapsed: a share that nobody comes for.
        """
        deadline = time.monotonic() + block_s
        while True:
            rows, last_id = self._claim(count, workers)
            if entries := self._usable(rows):
                return entries
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            if not rows:
                self._await_new(last_id, min(left, self._sweep_s))

    def own_pending(self, *, behind: str = "") -> list[Entry]:
        """Return the entries that were claimed under this name and are not acknowledged, oldest first (after a restart).

        Args:
            behind: An entry's id: return only later ones.
        """
        entries: list[Entry] = []
        after = f"({behind}" if behind else "-"
        while True:
            rows = self._space.run("own_pending", [self._stream], self._consumer_group, self._name, after, PAGE)
            entries += self._usable(rows)
            if len(rows) < PAGE:
                return entries
            after = f"({rows[-1][0].decode()}"

    def renew(self, ids: Sequence[str]) -> list[str]:
        """Restart the claim timeout of the entries that this worker still owns, and return their ids."""
        if not ids:
            return []
        renewed = self._space.run("renew", [self._stream], self._consumer_group, self._name, *ids)
        return [id_.decode() for id_ in renewed]

    def hand_off(self, entry: Entry, destination: str, payload: bytes) -> bool:
        """Acknowledge the entry and add `payload` to the destination. Returns False if another worker was first (I1)."""
        keys = [self._stream, destination, self._space.request()]
        args = (self._consumer_group, entry.id, entry.group, payload, REQUEST_S)
        return bool(self._space.run("hand_off", keys, *args))

    def leave(self) -> int:
        """Give back all unfinished claims and leave the consumer group. Returns the number of entries given back."""
        return int(self._space.run("leave", [self._stream], self._consumer_group, self._name))

    def ack(self, ids: Sequence[str]) -> int:
        """Acknowledge entries without handing anything off. Returns how many of them were pending."""
        if not ids:
            return 0
        return int(self._space.command("XACK", self._space.key(self._stream), self._consumer_group, *ids))

    def dead_letter(self, entry: Entry, reason: str) -> bool:
        """Move the entry to the dead letters and settle its group. Returns False if another worker was first."""
        return self._bury(entry.id, str(entry.group), entry.payload, reason)

    def _bury(self, id_: str, group: str, payload: bytes, reason: str) -> bool:
        # The meta-RM only reads along: the other consumer groups decide the outcome of a rollout group.
        outcome = "skipped" if self._consumer_group == META_RM else "dead_letter"
        keys = [self._stream, DEAD, self._space.request(), "outstanding", "outcomes"]
        args = (self._consumer_group, id_, group, payload, reason[:1000], self._stream, outcome, REQUEST_S, DEAD_KEPT)
        return bool(self._space.run("dead_letter", keys, *args))

    def _claim(self, count: int, workers: int) -> tuple[list[_Row], bytes]:
        """Return the rows claimed now and, if there are none, the last id that was ever claimed."""
        due = self._timeout_s is not None and time.monotonic() - self._swept_at > self._timeout_s
        timeout_ms = "" if self._timeout_s is None else max(1, round(self._timeout_s * 1000))
        args = (
            self._consumer_group,
            self._name,
            timeout_ms,
            count,
            "lapsed" if due else "new",
            REQUEST_S,
            workers,
            self._sweep_from,
        )
        keys, fence = [self._stream, self._space.request()], []
        if self.incarnation is not None:
            keys, fence = [*keys, "incarnation"], [self.incarnation]
        rows, last_id, self._sweep_from = self._space.run("claim", keys, *args, *fence)
        if due or not rows:
            self._swept_at = time.monotonic()
        return rows, last_id

    def _await_new(self, last_id: bytes, seconds: float) -> None:
        """Wait for an entry after `last_id`. This claims nothing: an answer may be lost, a claim must not be."""
        block_ms = max(1, round(seconds * 1000))  # 0 would wait without limit
        name = self._space.key(self._stream)
        self._space.command("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", name, last_id)

    def _usable(self, rows: list[_Row]) -> list[Entry]:
        """Return rows (id, deliveries, fields) as entries; poison among them goes to the dead letters."""
        entries = []
        for raw_id, deliveries, flat in rows:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            id_, group, payload = raw_id.decode(), fields.get(b"g", b""), fields.get(b"p", b"")
            if fields.keys() != {b"g", b"p"} or not group.isdigit():
                reason = "malformed entry: expected the fields g (group number) and p (payload)"
                self._bury(id_, "", payload, reason)
            elif self._max_deliveries is not None and deliveries > self._max_deliveries:
                reason = f"claimed {deliveries - 1} times and never finished: it kills or hangs its workers"
                self._bury(id_, group.decode(), payload, reason)
            else:
                entries.append(Entry(id=id_, group=int(group), payload=payload, deliveries=deliveries))
        return entries


def waiting(client: redis.Redis, run_id: str, stream: str, consumer_group: str) -> int:
    """Return the number of entries that the consumer group has not claimed yet; 0 if there is no such consumer group."""
    space = Namespace(client, run_id)
    name = space.key(stream)
    for info in space.command("XINFO GROUPS", name):
        if info["name"] == consumer_group.encode():
            if info["lag"] is not None:
                return int(info["lag"])
            return int(space.run("unread", [stream], info["last-delivered-id"]))  # unknown after a deletion
    return 0


def lengths(client: redis.Redis, run_id: str) -> dict[str, int]:
    """Return the number of entries that wait to be claimed, by stream (`experience`: by the GRPO learner)."""
    return {stream: waiting(client, run_id, stream, consumer_group) for stream, consumer_group in READERS}


def dead_letters(client: redis.Redis, run_id: str) -> list[DeadLetter]:
    """Return the newest dead letters of the run, up to DEAD_KEPT, oldest first."""
    space = Namespace(client, run_id)
    return [
        DeadLetter(
            stream=fields[b"stream"].decode(),
            id=fields[b"id"].decode(),
            group=int(fields[b"g"]) if fields[b"g"] else None,
            reason=fields[b"reason"].decode(),
            payload=fields[b"p"],
        )
        for _, fields in space.command("XRANGE", space.key(DEAD), "-", "+")
    ]
