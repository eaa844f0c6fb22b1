"""The accounts of a run: which rollout groups were issued, which are outstanding, and the outcomes of the others.

    issued = outstanding + trained + filtered + dropped + dead_letter              (at any instant)

The driver issues groups, the GRPO learner settles them. Every change is one Lua script, and harmless when it runs twice.
`group` is always a rollout group here; a Redis consumer group is called `consumer_group`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from dataclasses import fields as fields_of
from itertools import pairwise
from typing import Literal

import redis

from buffer.connection import REQUEST_S, Namespace
from buffer.streams import EXPERIENCE, GRPO, PROMPTS, ROLLOUTS, waiting

OUTCOMES = ("issued", "trained", "filtered", "dropped", "dead_letter", "skipped")  # skipped: not read by the meta-RM


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """How far the data is issued. All numbers are >= 0."""

    group: int = 0
    """Number of the next group."""
    epoch: int = 0
    """Epoch of the next preference."""
    index: int = 0
    """Index of the next preference in its epoch."""
    skipped: int = 0
    """Preferences left out so far, as their prompts are longer than the context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A prompt that may be issued."""

    group: int
    """Number of its group."""
    payload: bytes
    """The encoded prompt."""
    after: Cursor
    """The cursor once it is issued."""

    def __post_init__(self) -> None:
        if self.after.group != self.group + 1:
            raise ValueError(f"offer of group {self.group}: cursor after it names {self.after.group} as the next group")


class Ledger:
    """The accounts of one run. A version is the number of optimiser steps behind the published policy, 0 at first."""

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._space = Namespace(client, run_id)
        self._incarnation = 0  # of the learner that recovered through this ledger

    def issue(self, offers: Sequence[Offer], *, version: int, limit: int) -> int:
        """Issue the first of the offers, as many as there is credit for.

        I2, bounded staleness: a group is issued while |outstanding| < limit = (eta + 1) * B, at u = `version`.
        I7: the cursor moves in the same script.

        Example:
            eta = 1 and B = 8 give limit = 16. At version 0 the driver offers 20 prompts: 16 are issued, with u = 0, and then
            none. The learner trains 8 of them and publishes version 1. 8 groups are outstanding, so 8 more are issued, with
            u = 1. The learner trains the older 8 next, at version 1: their staleness is 1 - 0 = eta, and never more.

        Args:
            offers: Consecutive groups that begin at the cursor.
            version: The learner's version as last read.
            limit: (eta + 1) * B, at least 1.

        Returns:
            The number of groups issued. It is 0 when the learner's version has moved on: read `version()` and offer again.

        Raises:
            ServerError: The first offer is not the cursor's next group.
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
        """Return {group: issue version u} of every group without an outcome, oldest first."""
        flat = self._space.command("ZRANGE", self._space.key("outstanding"), 0, -1, "WITHSCORES")
        return {int(group): int(u) for group, u in zip(flat[::2], flat[1::2], strict=True)}

    def version(self) -> int:
        """Return the learner's published version."""
        return int(self._space.command("GET", self._space.key("version")) or 0)

    def cursor(self) -> Cursor:
        """Return how far the data is issued."""
        return self._cursor("")

    def round_start(self) -> Cursor:
        """Return the cursor before the last issue: the groups from there to `cursor()` were issued together."""
        return self._cursor("round_start_")

    def _cursor(self, prefix: str) -> Cursor:
        names = [field.name for field in fields_of(Cursor)]
        values = self._space.command("HMGET", self._space.key("cursor"), *(prefix + name for name in names))
        return Cursor(**{name: int(value or 0) for name, value in zip(names, values, strict=True)})

    def finished(self) -> set[int]:
        """Return the groups that have experience which is not yet trimmed."""
        entries = self._space.command("XRANGE", self._space.key(EXPERIENCE), "-", "+")
        return {int(fields[b"g"]) for _, fields in entries}

    def reopen(self, prompts: Mapping[int, bytes]) -> None:
        """Issue prompts of the last issue again and delete everything in the streams that came of them.

        No worker may be running.

        Args:
            prompts: {group: payload}.

        Raises:
            ServerError: One of the groups is not outstanding. Nothing is changed then.
        """
        keys = [PROMPTS, ROLLOUTS, EXPERIENCE, "outstanding", "cursor"]
        pairs = [item for pair in prompts.items() for item in pair]
        self._space.run("reopen", keys, self.round_start().group, *pairs)

    def outcomes(self) -> dict[str, int]:
        """Return the number of groups issued, and by outcome, since the run began; `skipped` counts those that the meta-RM did
        not read."""
        values = self._space.command("HMGET", self._space.key("outcomes"), *OUTCOMES)
        return {name: int(value or 0) for name, value in zip(OUTCOMES, values, strict=True)}

    def advance(self, version: int, trained: Sequence[int]) -> None:
        """Note that the learner published a version that is trained on these groups. Their credit refills.

        Their entries stay pending until `acknowledge`.

        Args:
            version: One more than the published version.
            trained: The groups behind the step.

        Raises:
            ServerError: The version is another, or a group is not outstanding and would be trained twice (I3). Nothing is
                changed then.
        """
        keys = ["version", "outstanding", "unsaved", "outcomes", "incarnation"]
        self._space.run("advance", keys, self._incarnation, version, *trained)

    def release(
        self, groups: Sequence[int], *, outcome: Literal["trained", "filtered", "dropped"], entries: Sequence[str]
    ) -> None:
        """Settle groups without a new version. Their credit refills.

        Args:
            groups: The groups, which all have the same outcome.
            outcome: `filtered` (nothing to learn from), `dropped` (too stale) or `trained` (kept by the cold start for its
                fine-tuning).
            entries: Ids of their entries that are claimed already. A group may be dropped before its entry arrives; that
                entry is released later, with no group.
        """
        keys = ["outstanding", "outcomes", EXPERIENCE, "incarnation"]
        self._space.run("release", keys, GRPO, self._incarnation, outcome, len(groups), *groups, *entries)

    def acknowledge(self, version: int, entries: Sequence[str]) -> None:
        """Acknowledge trained entries once the checkpoint of `version`, which holds their gradient, is on disk (I3)."""
        keys = [EXPERIENCE, "unsaved", "incarnation", "saved"]
        self._space.run("acknowledge", keys, GRPO, self._incarnation, version, *entries)

    def recover(self, version: int, trained: Sequence[str], regained: Mapping[int, int]) -> tuple[int, int]:
        """Go back to the learner's checkpoint. Called at every start of the learner, also after a crash.

        From now on only this ledger may `advance`, `acknowledge` and `release`: a learner that was thought dead and wakes up
        is refused (ServerError).

        Args:
            version: The checkpoint's.
            trained: The entry ids that the checkpoint lists. They are acknowledged.
            regained: {group: u} of the claims that it does not list. Those trained since then are outstanding again, with
                their own u (I3). A group that is still not outstanding was dropped before: `release` its entry.

        Returns:
            The learner's incarnation, 1 at first, and its version. That is the checkpoint's version, unless a newer
            checkpoint was acknowledged and then lost: its gradient is lost too, but prompts were issued at its version,
            which no older version may sample.

        Raises:
            ServerError: A group was trained since the last `acknowledge` and is in neither `trained` nor `regained`. Nothing
                is changed then.
        """
        keys = ["version", "outstanding", "unsaved", "outcomes", EXPERIENCE, "incarnation", "saved"]
        pairs = [number for pair in regained.items() for number in pair]
        incarnation, at = self._space.run("recover", keys, GRPO, version, len(trained), *trained, *pairs)
        self._incarnation = int(incarnation)
        return self._incarnation, int(at)

    def trim(self) -> int:
        """Delete the oldest experience, as far as every consumer group has acknowledged it (I4). Returns the number of
        entries deleted."""
        return int(self._space.run("trim", [EXPERIENCE]))

    def skip_backlog(self, consumer_group: str, max_backlog: int) -> int:
        """Skip the consumer group's oldest unclaimed experience beyond `max_backlog` entries, and count it (I4).

        Only for a consumer group with one reader. Returns the number skipped now; `outcomes()["skipped"]` is the total.
        """
        excess = waiting(self._client, self._run_id, EXPERIENCE, consumer_group) - max_backlog
        if excess <= 0:
            return 0
        keys = [EXPERIENCE, "outcomes", self._space.request()]
        return int(self._space.run("skip_backlog", keys, consumer_group, excess, REQUEST_S))
