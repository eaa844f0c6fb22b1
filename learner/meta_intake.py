"""Rank 0 of the meta-RM learner at the buffer: whole groups in the order of their arrival, a bounded backlog (I3, I4).

[experience] ─claim─▶ something parsed ─▶ ready, until they hold `meta_rm.batch` parsed completions ─▶ a batch
                      nothing parsed ───▶ acknowledged at once: it has nothing to teach, so no checkpoint is awaited
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence

from buffer.ledger import Ledger
from buffer.streams import EXPERIENCE, META_RM, Address, Consumer, connect, waiting
from configs.schema import Config
from learner.experience import POLL_S, GroupLimits, Reader, ReceivedGroup, UnacknowledgedEntries
from learner.parsed import count_parsed


class MetaIntake:
    """Holds the groups that were claimed until they make a batch."""

    def __init__(self, config: Config, address: Address, vocabulary: int) -> None:
        tokens = config.meta_rm.micro_tokens
        limits = GroupLimits(max_bytes=config.max_entry_bytes, vocabulary=vocabulary, tokens=tokens)
        self._redis, self._run_id = connect(address, timeout_s=config.waits.server_s), address.run_id
        self._ledger = Ledger(self._redis, address.run_id)
        consumer = Consumer(
            self._redis, address.run_id, EXPERIENCE, META_RM, META_RM, claim_timeout_s=None, max_deliveries=None
        )
        self._reader = Reader(consumer, limits)
        self._samples, self._batch = config.rollout.samples, config.meta_rm.batch
        self._max_backlog = config.meta_rm.max_backlog
        self._ready: deque[ReceivedGroup] = deque()
        self._unacknowledged = UnacknowledgedEntries()

    def recover(self, contained: Sequence[str]) -> None:
        """After a start: acknowledge what the checkpoint contains; what else was claimed before is ready."""
        known = set(contained)
        self._reader.acknowledge(contained)
        self._keep(received for received in self._reader.claimed_before() if received.entry_id not in known)

    def wait(self, seconds: float) -> list[ReceivedGroup]:
        """Return the next whole groups of at least `meta_rm.batch` parsed completions, or nothing within `seconds`.

        Meanwhile the backlog is bounded. What little is parsed is kept from call to call, so a batch comes together at last.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.bound_backlog()
            missing = self._batch - _parsed(self._ready)
            if missing <= 0:
                return self._take()
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._keep(self._reader.claim(min(left, POLL_S), count=-(-missing // self._samples)))

    def bound_backlog(self) -> None:
        """Skip and count the oldest groups beyond `max_backlog` (I4).

        The newest experience is closest to the judgements that the meta-RM will score.
        """
        self._ledger.skip_backlog(META_RM, self._max_backlog)

    def trained(self, batch: Sequence[ReceivedGroup]) -> None:
        """Remember the entries of `batch` until a checkpoint contains them."""
        self._unacknowledged.add(batch)

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Ids of the entries trained and not acknowledged."""
        return self._unacknowledged.ids

    def saved(self, entries: Sequence[str]) -> None:
        """Acknowledge entries that a checkpoint contains; more may have been trained since it was begun."""
        self._reader.acknowledge(entries)
        self._unacknowledged.remove(entries)

    def metrics(self) -> dict[str, float]:
        """Return `meta_rm/backlog`, groups waiting for the meta-RM, and `meta_rm/skipped`, groups skipped in this run."""
        behind = waiting(self._redis, self._run_id, EXPERIENCE, META_RM) + len(self._ready)
        return {"meta_rm/backlog": float(behind), "meta_rm/skipped": float(self._ledger.outcomes()["skipped"])}

    def close(self) -> None:
        """Disconnect. For tests: in a run the process is killed."""
        self._redis.close()

    def _keep(self, claimed: Iterable[ReceivedGroup]) -> None:
        """Make those groups ready of which something was parsed, and acknowledge the others."""
        empty = []
        for received in claimed:
            if count_parsed(received.group):
                self._ready.append(received)
            else:
                empty.append(received.entry_id)
        self._reader.acknowledge(empty)

    def _take(self) -> list[ReceivedGroup]:
        batch: list[ReceivedGroup] = []
        while _parsed(batch) < self._batch:
            batch.append(self._ready.popleft())
        return batch


def _parsed(batch: Iterable[ReceivedGroup]) -> int:
    return sum(count_parsed(received.group) for received in batch)
