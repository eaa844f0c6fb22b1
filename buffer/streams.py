"""A worker's side of the three streams: claim, renew, hand on, reclaim. Who dies is simply claimed from.

    [prompts] -> rollout actors -> [rollouts] -> reward actors -> [experience] -> grpo, meta-rm

Every entry has two fields, ``g``, the group's number, and ``p``, the payload: so the account of a group can be
settled even when its payload cannot be read.
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
READERS = ((PROMPTS, ROLLOUT), (ROLLOUTS, REWARD), (EXPERIENCE, GRPO))  # on whom a group's outcome depends
SWEEP_S = 1.0  # longest wait between two looks at lapsed claims
PAGE = 100

_Row = tuple[bytes, int, list[bytes]]  # id, deliveries, fields and values in turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A claimed stream entry. group: the rollout group's number. deliveries: claims so far, this one too."""

    id: str
    group: int
    payload: bytes
    deliveries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """An entry that nobody could use. group: None when the entry did not even say."""

    stream: str
    id: str
    group: int | None
    reason: str
    payload: bytes


def setup(client: redis.Redis, run_id: str, *, meta_rm: bool) -> None:
    """Create the run's streams and consumer groups, as the run's owner does at start; harmless when repeated.

    A group reads from the stream's beginning. The group of the meta-RM exists only when there is one, since
    ``experience`` is kept until every group has acknowledged it (I4).
    """
    space = Namespace(client, run_id)
    for stream, group in (*READERS, (EXPERIENCE, META_RM)) if meta_rm else READERS:
        space.run("create_group", [stream], group)


def in_use(client: redis.Redis, run_id: str) -> bool:
    """Whether a run of this id lives (or lies) on the server: a new run takes another id, or resumes."""
    space = Namespace(client, run_id)
    return bool(space.command("EXISTS", space.key(PROMPTS)))


def remove(client: redis.Redis, run_id: str) -> int:
    """Delete every key of the run, and no other key; the number deleted."""
    Namespace(client, run_id)  # a checked run id holds no glob character
    keys = list(client.scan_iter(match=key(run_id, "*"), count=1000))
    return sum(int(client.unlink(name)) for name in keys)


class Consumer:
    """One worker in one consumer group of one stream.

    claim_timeout_s: claims that were not renewed for so long may be taken by others; None for a consumer that is
    alone in its group (a learner), which regains its claims by ``own_pending`` under the same name.
    max_deliveries: an entry claimed more often goes to the dead letters, as it kills workers; None: never.
    ``incarnation``, set once ``Ledger.recover`` has given it: when there is a newer one, claims are refused (ServerError).
    """

    def __init__(
        self,
        client: redis.Redis,
        run_id: str,
        stream: str,
        group: str,
        name: str,
        *,
        claim_timeout_s: float | None,
        max_deliveries: int | None = 5,
    ) -> None:
        if claim_timeout_s is not None and claim_timeout_s <= 0:
            raise ValueError(f"claim_timeout_s {claim_timeout_s}: expected more than 0, or None")
        self._space = Namespace(client, run_id)
        self._stream, self._group, self._name = stream, group, name
        self._timeout_s = claim_timeout_s
        self._sweep_s = SWEEP_S if claim_timeout_s is None else min(SWEEP_S, claim_timeout_s)
        self._max_deliveries = max_deliveries
        self._swept_at = time.monotonic()
        self.incarnation: int | None = None

    def claim(self, count: int, *, block_s: float) -> list[Entry]:
        """Up to ``count`` entries: new ones, else some whose claim has lapsed; [] after ``block_s`` seconds.

        Lapsed claims come first once per claim timeout, lest they starve. They may be this worker's own: it
        skips ids that it still holds. Poison entries go to the dead letters instead.
        """
        deadline = time.monotonic() + block_s
        while True:
            rows, last_id = self._claim(count)
            if entries := self._usable(rows):
                return entries
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            if not rows:
                self._await_new(last_id, min(left, self._sweep_s))

    def own_pending(self, *, behind: str = "") -> list[Entry]:
        """All that was claimed under this name and is not yet acknowledged, oldest first (after a restart). behind: an entry's
        id; only what came later."""
        found: list[Entry] = []
        after = f"({behind}" if behind else "-"
        while True:
            rows = self._space.run("own_pending", [self._stream], self._group, self._name, after, PAGE)
            found += self._usable(rows)
            if len(rows) < PAGE:
                return found
            after = f"({rows[-1][0].decode()}"

    def renew(self, ids: Sequence[str]) -> list[str]:
        """Restart the claim timeout of those that this worker still owns; which these are."""
        if not ids:
            return []
        mine = self._space.run("renew", [self._stream], self._group, self._name, *ids)
        return [id_.decode() for id_ in mine]

    def hand_off(self, entry: Entry, destination: str, payload: bytes) -> bool:
        """Acknowledge the entry and add ``payload`` to the destination; False: another was first (I1)."""
        keys = [self._stream, destination, self._space.request()]
        args = (self._group, entry.id, entry.group, payload, REQUEST_S)
        return bool(self._space.run("hand_off", keys, *args))

    def leave(self) -> int:
        """Give back at once what is claimed and not finished, and leave the group; how many entries were given back."""
        return int(self._space.run("leave", [self._stream], self._group, self._name))

    def ack(self, ids: Sequence[str]) -> int:
        """Acknowledge for this group without handing anything on; how many were pending."""
        if not ids:
            return 0
        return int(self._space.command("XACK", self._space.key(self._stream), self._group, *ids))

    def dead_letter(self, entry: Entry, reason: str) -> bool:
        """Put the entry aside with the reason, and settle its group's account; False: another was first."""
        return self._bury(entry.id, str(entry.group), entry.payload, reason)

    def _bury(self, id_: str, group: str, payload: bytes, reason: str) -> bool:
        # The meta-RM only reads along: the outcome of a group is decided in the other consumer groups.
        outcome = "skipped" if self._group == META_RM else "dead_letter"
        keys = [self._stream, DEAD, self._space.request(), "outstanding", "outcomes"]
        args = (self._group, id_, group, payload, reason[:1000], self._stream, outcome, REQUEST_S)
        return bool(self._space.run("dead_letter", keys, *args))

    def _claim(self, count: int) -> tuple[list[_Row], bytes]:
        """Rows of what is claimed now, and when there are none the last id that was ever claimed."""
        due = self._timeout_s is not None and time.monotonic() - self._swept_at > self._timeout_s
        timeout_ms = "" if self._timeout_s is None else max(1, round(self._timeout_s * 1000))
        args = (self._group, self._name, timeout_ms, count, "lapsed" if due else "new", REQUEST_S)
        keys, fence = [self._stream, self._space.request()], []
        if self.incarnation is not None:
            keys, fence = [*keys, "incarnation"], [self.incarnation]
        rows, last_id = self._space.run("claim", keys, *args, *fence)
        if due or not rows:
            self._swept_at = time.monotonic()
        return rows, last_id

    def _await_new(self, last_id: bytes, seconds: float) -> None:
        """Return when there is an entry after last_id. Claims nothing: an answer may be lost, a claim may not."""
        block_ms = max(1, round(seconds * 1000))  # 0 would be for ever
        name = self._space.key(self._stream)
        self._space.command("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", name, last_id)

    def _usable(self, rows: list[_Row]) -> list[Entry]:
        """Rows (id, deliveries, fields) as entries; poison among them goes to the dead letters."""
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


def waiting(client: redis.Redis, run_id: str, stream: str, group: str) -> int:
    """Entries of the stream that nobody of the group has claimed yet; 0 when there is no such group."""
    space = Namespace(client, run_id)
    name = space.key(stream)
    for info in space.command("XINFO GROUPS", name):
        if info["name"] == group.encode():
            if info["lag"] is not None:
                return int(info["lag"])
            return int(space.run("unread", [stream], info["last-delivered-id"]))  # unknown after a deletion
    return 0


def lengths(client: redis.Redis, run_id: str) -> dict[str, int]:
    """Entries that wait to be claimed, by stream (``experience``: by the GRPO learner)."""
    return {stream: waiting(client, run_id, stream, group) for stream, group in READERS}


def dead_letters(client: redis.Redis, run_id: str) -> list[DeadLetter]:
    """All dead letters of the run, oldest first."""
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
