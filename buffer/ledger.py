"""The accounts of a run: which groups were issued, which are outstanding, and what became of the others.

    issued = outstanding + trained + filtered + dropped + dead_letter              (at any instant)

The driver issues, the GRPO learner settles. Every change is one Lua script, and harmless when it runs twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from dataclasses import fields as fields_of
from itertools import pairwise
from typing import Literal

import redis

from buffer.connection import REQUEST_S, Namespace
from buffer.streams import EXPERIENCE, GRPO, PROMPTS, ROLLOUTS, waiting

OUTCOMES = ("issued", "trained", "filtered", "dropped", "dead_letter", "skipped")  # skipped: unread by the meta-RM


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """How far the data is issued. group: number of the next group. epoch, index: the next preference, as the driver
    counts them. skipped: preferences left out so far (a prompt longer than the context). All >= 0.
    """

    group: int = 0
    epoch: int = 0
    index: int = 0
    skipped: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A prompt that may be issued: its group's number, its payload, and the cursor once it is issued."""

    group: int
    payload: bytes
    after: Cursor

    def __post_init__(self) -> None:
        if self.after.group != self.group + 1:
            raise ValueError(f"offer of group {self.group}: cursor after it names {self.after.group} as the next group")


class Ledger:
    """The accounts of one run. Version: optimiser steps behind the published policy, 0 at first."""

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._space = Namespace(client, run_id)
        self._incarnation = 0  # of the learner that recovered through this ledger

    def issue(self, offers: Sequence[Offer], *, version: int, limit: int) -> int:
        """Issue as many of the offers, in order, as there is credit for; how many.

        I2: a group is issued while |outstanding| < limit = (eta + 1) * B, at u = ``version``, which must be the
        learner's version still: 0 are issued otherwise (read ``version()`` and offer again).
        I7: the cursor moves in the same script. ServerError when the first offer is not the cursor's next group.
        """
        if limit < 1:
            raise ValueError(f"limit {limit}: expected (eta + 1) * B, at least 1")
        if any(b.group != a.group + 1 for a, b in pairwise(offers)):
            raise ValueError(f"groups {[offer.group for offer in offers]}: expected consecutive numbers")
        if not offers:
            return 0
        keys = [PROMPTS, "outstanding", "cursor", "version", "outcomes", self._space.request()]
        rows = [value for offer in offers for value in (offer.group, offer.payload, *astuple(offer.after))]
        return int(self._space.run("issue", keys, REQUEST_S, limit, version, *rows))

    def outstanding(self) -> dict[int, int]:
        """{group: issue version u} of every group issued and not yet trained, filtered, dropped or dead; oldest first."""
        flat = self._space.command("ZRANGE", self._space.key("outstanding"), 0, -1, "WITHSCORES")
        return {int(group): int(u) for group, u in zip(flat[::2], flat[1::2], strict=True)}

    def version(self) -> int:
        return int(self._space.command("GET", self._space.key("version")) or 0)

    def cursor(self) -> Cursor:
        return self._cursor("")

    def round_start(self) -> Cursor:
        """The cursor before the last issue: what was issued together begins there and ends at ``cursor()``."""
        return self._cursor("round_start_")

    def _cursor(self, prefix: str) -> Cursor:
        names = [field.name for field in fields_of(Cursor)]
        values = self._space.command("HMGET", self._space.key("cursor"), *(prefix + name for name in names))
        return Cursor(**{name: int(value or 0) for name, value in zip(names, values, strict=True)})

    def finished(self) -> set[int]:
        """Groups whose experience is there and not yet trimmed."""
        entries = self._space.command("XRANGE", self._space.key(EXPERIENCE), "-", "+")
        return {int(fields[b"g"]) for _, fields in entries}

    def reopen(self, prompts: Mapping[int, bytes]) -> None:
        """Issue the prompts of the last issue again, {group: payload}, as if nobody had begun them: what lies of them in
        the streams goes. No worker may be at work. ServerError, and nothing changed, when one is not outstanding.
        """
        keys = [PROMPTS, ROLLOUTS, EXPERIENCE, "outstanding", "cursor"]
        pairs = [item for pair in prompts.items() for item in pair]
        self._space.run("reopen", keys, self.round_start().group, *pairs)

    def outcomes(self) -> dict[str, int]:
        """Groups issued and by outcome since the run began; ``skipped``: those the meta-RM did not see."""
        values = self._space.command("HMGET", self._space.key("outcomes"), *OUTCOMES)
        return {name: int(value or 0) for name, value in zip(OUTCOMES, values, strict=True)}

    def advance(self, version: int, trained: Sequence[int]) -> None:
        """The learner published ``version``, one more than before, trained on these groups: their credit refills.

        Their entries stay pending until ``acknowledge``. ServerError when the version is another, or when a
        group is not outstanding, which would train it twice (I3); nothing is changed then.
        """
        keys = ["version", "outstanding", "unsaved", "outcomes", "incarnation"]
        self._space.run("advance", keys, self._incarnation, version, *trained)

    def release(
        self, groups: Sequence[int], *, outcome: Literal["trained", "filtered", "dropped"], entries: Sequence[str]
    ) -> None:
        """Settle groups without a new version: filtered (nothing to learn from), dropped (too stale), or trained (the cold
        start put them aside to be learnt later); their credit refills.

        entries: ids of their entries that are claimed already. A group may be dropped before its entry arrives;
        that entry is then released with no group.
        """
        keys = ["outstanding", "outcomes", EXPERIENCE, "incarnation"]
        self._space.run("release", keys, GRPO, self._incarnation, outcome, len(groups), *groups, *entries)

    def acknowledge(self, entries: Sequence[str]) -> None:
        """Acknowledge trained entries, once the checkpoint of this version, which holds their gradient, is on disk (I3)."""
        keys = [EXPERIENCE, "unsaved", "incarnation", "version", "saved"]
        self._space.run("acknowledge", keys, GRPO, self._incarnation, *entries)

    def recover(self, version: int, trained: Sequence[str], regained: Mapping[int, int]) -> tuple[int, int]:
        """At every start of the learner, also after a crash: back to its checkpoint. Returns its incarnation, 1 at first,
        and the version that it is at.

        From now on only this ledger may ``advance``, ``acknowledge`` and ``release``: a learner that was thought dead and
        wakes up is refused (ServerError).

        The version is the checkpoint's, except where a newer one was acknowledged and is lost: then it is that one's. Its
        gradient is gone, but prompts were issued at it, which no older version may sample.

        version: the checkpoint's. trained: entry ids that it lists; they are acknowledged. regained: {group: u} of
        the claims that it does not list: those trained since are outstanding again, with their own u (I3). One that
        is still not outstanding was dropped before: its entry wants ``release``. ServerError, and nothing changed,
        when a group was trained since the last ``acknowledge`` and is in neither.
        """
        keys = ["version", "outstanding", "unsaved", "outcomes", EXPERIENCE, "incarnation", "saved"]
        pairs = [number for pair in regained.items() for number in pair]
        incarnation, at = self._space.run("recover", keys, GRPO, version, len(trained), *trained, *pairs)
        self._incarnation = int(incarnation)
        return self._incarnation, int(at)

    def trim(self) -> int:
        """Delete experience that every consumer group has acknowledged, from the oldest on; how much (I4)."""
        return int(self._space.run("trim", [EXPERIENCE]))

    def skip_backlog(self, group: str, max_backlog: int) -> int:
        """Pass over the group's oldest unclaimed experience beyond ``max_backlog`` entries, and count it (I4).

        For the one reader of the group; returns how many were passed over (in all: ``outcomes()["skipped"]``).
        """
        excess = waiting(self._client, self._run_id, EXPERIENCE, group) - max_backlog
        if excess <= 0:
            return 0
        keys = [EXPERIENCE, "outcomes", self._space.request()]
        return int(self._space.run("skip_backlog", keys, group, excess, REQUEST_S))
