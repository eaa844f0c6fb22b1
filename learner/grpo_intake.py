"""Rank 0 of the GRPO learner at the buffer: what is ready, what is trained next, what becomes of the rest (I2, I3)."""

import time
from collections.abc import Sequence
from typing import Literal

from buffer.ledger import Ledger
from buffer.streams import EXPERIENCE, GRPO, Address, Consumer, connect
from configs.schema import Config
from learner.arrivals import ArrivalsReport
from learner.experience import POLL_S, GroupLimits, Reader, ReceivedGroup, UnacknowledgedEntries
from learner.kept_arrivals import KeptArrivals
from learner.selection import SELECTORS, Choice, ReadyGroup


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
        self._filter = config.grpo.filter
        self._ready: dict[int, ReceivedGroup] = {}
        self._unacknowledged = UnacknowledgedEntries()
        self._arrivals = KeptArrivals(self._redis, address.run_id)

    def recover(self, version: int, contained: Sequence[str]) -> tuple[int, int]:
        """Go back to `version` after a start.

        Groups that were trained after that checkpoint become outstanding again: their gradient was lost with the
        process that computed it, and their claims are still in the stream.

        Args:
            version: of the checkpoint that was loaded, 0 without one.
            contained: ids of the entries that the checkpoint contains (I3).

        Returns:
            The incarnation of this learner, and the version that it is at (see `Ledger.recover`).
        """
        pending, known = self._reader.claimed_before(), set(contained)
        claimed = [received for received in pending if received.entry_id not in known]
        regained = {received.group.group: received.group.issued_at for received in claimed}
        incarnation, resumed_at = self._ledger.recover(version, contained, regained)
        self._reader.fence(incarnation)
        self._arrivals.load()
        self._receive(claimed, step=resumed_at + 1)
        # and what an older learner claimed until the fence stood, which is newer than all that had been claimed before
        newer = self._reader.claimed_before(behind=pending[-1].entry_id if pending else "")
        self._receive(newer, step=resumed_at + 1)
        return incarnation, resumed_at

    def wait(self, version: int, seconds: float) -> list[ReceivedGroup]:
        """Return the next batch for `version`, in its order, or nothing when none is ready within `seconds`.

        Everything that has arrived is received first, so that the oldest groups are the oldest there are.
        """
        deadline = time.monotonic() + seconds
        while True:
            while received := self._reader.claim(0.0):
                self._receive(received, step=version + 1)
            choice = self._choose(version)
            if choice.train:
                return [self._ready.pop(group) for group in choice.train]
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._receive(self._reader.claim(min(left, POLL_S)), step=version + 1)

    def take_in(self, version: int) -> None:
        """Receive what has arrived and release what is filtered or dropped, while a batch is trained at `version`.

        That batch is outstanding until it is trained, so the rule of `wait` holds as it is. At eta = 0 nothing else is.
        """
        arrived = self._reader.claim(0.0)
        if arrived:
            self._receive(arrived, step=version + 1)
            self._choose(version)

    def drop(self, batch: Sequence[ReceivedGroup]) -> None:
        """Release the groups of a batch that cannot be trained on: they never come back, and new ones may be issued."""
        groups, entries = [received.group.group for received in batch], [received.entry_id for received in batch]
        self._ledger.release(groups, outcome="dropped", entries=entries)

    def trained(self, version: int, batch: Sequence[ReceivedGroup]) -> None:
        """Count the groups of `batch` as trained into `version`, which is on its way to the workers."""
        self._ledger.advance(version, [received.group.group for received in batch])
        self._unacknowledged.add(batch)

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Ids of the entries trained and not acknowledged."""
        return self._unacknowledged.ids

    def saved(self, version: int, entries: Sequence[str]) -> None:
        """Acknowledge entries that the checkpoint of `version` contains; more may have been trained since it was begun."""
        self._ledger.acknowledge(version, entries)
        self._unacknowledged.remove(entries)
        self._arrivals.saved(version, self._ready)
        self._ledger.trim()

    def metrics(self, version: int) -> dict[str, float]:
        """Return the metrics of what arrived for the step to `version`, however often it is taken."""
        return self._arrivals.stats(version).metrics()

    def uninformative(self, version: int) -> ArrivalsReport | None:
        """Return what arrived since the step to `version`; None where nothing did, or some of it can be trained on.

        Without `grpo.filter` everything can, so that a step is not held up by what arrives.
        """
        arrived = self._arrivals.stats(version + 1)
        if not self._filter or not arrived.groups or arrived.informative:
            return None
        return ArrivalsReport(version=version, groups=arrived.groups, metrics=arrived.metrics())

    def close(self) -> None:
        """Disconnect. For tests: in a run the process is killed."""
        self._redis.close()

    def _receive(self, batch: Sequence[ReceivedGroup], *, step: int) -> None:
        self._ready |= {received.group.group: received for received in batch}
        self._arrivals.add(step, [received.group for received in batch])

    def _choose(self, version: int) -> Choice:
        # Read after the claims: nobody else takes a claimed group out of `outstanding`, so one that is not there was
        # settled before a restart that came between its settlement and its acknowledgement.
        outstanding = self._ledger.outstanding()
        settled = [group for group in self._ready if group not in outstanding]
        if settled:
            self._ledger.release([], outcome="dropped", entries=[self._ready.pop(group).entry_id for group in settled])
        ready = [
            ReadyGroup(
                group=number,
                issued_at=received.group.issued_at,
                trainable=received.group.informative or not self._filter,
            )
            for number, received in self._ready.items()
        ]
        choice = self._select(ready, outstanding, version, self._batch, self._bound)
        self._arrivals.add_dropped(version + 1, [self._ready[group].group for group in choice.dropped])
        self._release(choice.filtered, "filtered")
        self._release(choice.dropped, "dropped")
        return choice

    def _release(self, groups: Sequence[int], outcome: Literal["filtered", "dropped"]) -> None:
        if groups:
            entries = [self._ready.pop(group).entry_id for group in groups]
            self._ledger.release(groups, outcome=outcome, entries=entries)
