"""Rank 0 of the GRPO learner at the buffer: what is ready, what is trained next, what becomes of the rest (I2, I3)."""

import time
from collections.abc import Iterable, Sequence
from typing import Literal

from buffer.ledger import Ledger
from buffer.streams import EXPERIENCE, GRPO, Address, Consumer, connect
from configs.schema import Config
from learner.experience import LOOK_S, GroupLimits, GroupStats, Reader, ReceivedGroup
from learner.selection import SELECTORS, Choice, ReadyGroup

OUTCOMES = ("issued", "trained", "filtered", "dropped", "dead_letter")


class Intake:
    """Holds the ready groups between their arrival and their outcome."""

    def __init__(self, config: Config, address: Address, vocabulary: int) -> None:
        tokens = config.learner.micro_tokens
        limits = GroupLimits(max_bytes=config.max_entry_bytes, vocabulary=vocabulary, tokens=tokens)
        self._redis = connect(address, timeout_s=config.waits.server_s)
        self._ledger = Ledger(self._redis, address.run_id)
        consumer = Consumer(self._redis, address.run_id, EXPERIENCE, GRPO, GRPO, claim_timeout_s=None, max_deliveries=None)
        self._reader = Reader(consumer, limits)
        self._select = SELECTORS[config.grpo.stale]
        self._batch, self._bound = config.grpo.batch_groups, config.grpo.max_staleness
        self._ready: dict[int, ReceivedGroup] = {}
        self._unacknowledged: list[str] = []
        self._stats = GroupStats()

    def recover(self, version: int, contained: Sequence[str]) -> tuple[int, int]:
        """After a start: back to ``version``, whose checkpoint contains the entries ``contained`` (I3); the incarnation, and
        the version that the learner is at (see ``Ledger.recover``).

        Groups that were trained after that checkpoint become outstanding again: their gradient was lost with the
        process that had computed it, and their claims are still here.
        """
        pending, known = self._reader.claimed_before(), set(contained)
        claimed = [one for one in pending if one.entry_id not in known]
        regained = {one.group.group: one.group.issued_at for one in claimed}
        incarnation, at = self._ledger.recover(version, contained, regained)
        self._reader.fence(incarnation)
        self._arrive(claimed)
        # and what an older one claimed until the fence stood, which is newer than all that had been claimed before
        self._arrive(self._reader.claimed_before(behind=pending[-1].entry_id if pending else ""))
        return incarnation, at

    def wait(self, version: int, seconds: float) -> list[ReceivedGroup]:
        """The next batch for ``version`` in its order, or nothing when none is ready within ``seconds``.

        Everything that has arrived is taken in first, so that the oldest groups are the oldest there are.
        """
        deadline = time.monotonic() + seconds
        while True:
            while arrived := self._reader.claim(0.0):
                self._arrive(arrived)
            choice = self._choose(version)
            if choice.train:
                return [self._ready.pop(group) for group in choice.train]
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._arrive(self._reader.claim(min(left, LOOK_S)))

    def drop(self, batch: Sequence[ReceivedGroup]) -> None:
        """The groups of ``batch`` cannot be trained on: they never come back, and their credit refills."""
        groups, entries = [one.group.group for one in batch], [one.entry_id for one in batch]
        self._ledger.release(groups, outcome="dropped", entries=entries)

    def trained(self, version: int, batch: Sequence[ReceivedGroup]) -> None:
        """The groups of ``batch`` are behind ``version``, which has been published."""
        self._ledger.advance(version, [arrived.group.group for arrived in batch])
        self._unacknowledged += [arrived.entry_id for arrived in batch]

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Ids of the entries trained since the last checkpoint."""
        return tuple(self._unacknowledged)

    def saved(self) -> None:
        """A checkpoint holds everything trained so far: its entries need never come back."""
        self._ledger.acknowledge(self._unacknowledged)
        self._unacknowledged = []
        self._ledger.trim()

    def metrics(self) -> dict[str, float]:
        """What arrived since the last call, and how many groups met each outcome so far."""
        metrics = self._stats.metrics()
        self._stats = GroupStats()
        outcomes = self._ledger.outcomes()
        return metrics | {f"groups/{outcome}": float(outcomes[outcome]) for outcome in OUTCOMES}

    def close(self) -> None:
        self._redis.close()

    def _arrive(self, arrived: Iterable[ReceivedGroup]) -> None:
        for one in arrived:
            self._ready[one.group.group] = one
            self._stats.add(one.group)

    def _choose(self, version: int) -> Choice:
        # Read after the claims: a claimed group leaves `outstanding` by our own hand only, so one that is not there
        # was settled before a restart that interrupted us between its account and its entry.
        outstanding = self._ledger.outstanding()
        settled = [group for group in self._ready if group not in outstanding]
        if settled:
            self._ledger.release([], outcome="dropped", entries=[self._ready.pop(group).entry_id for group in settled])
        ready = [
            ReadyGroup(group=number, issued_at=one.group.issued_at, informative=one.group.informative)
            for number, one in self._ready.items()
        ]
        choice = self._select(ready, outstanding, version, self._batch, self._bound)
        self._stats.dropped_lengths += [len(ids) for group in choice.dropped for ids in self._ready[group].group.completion_ids]
        self._release(choice.filtered, "filtered")
        self._release(choice.dropped, "dropped")
        return choice

    def _release(self, groups: Sequence[int], outcome: Literal["filtered", "dropped"]) -> None:
        if groups:
            entries = [self._ready.pop(group).entry_id for group in groups]
            self._ledger.release(groups, outcome=outcome, entries=entries)
