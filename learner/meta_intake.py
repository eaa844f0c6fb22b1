"""The meta-RM learner at the buffer: whole groups in the order in which they came, and what it passes over (I3, I4)."""

import time
from collections import deque
from collections.abc import Sequence

from buffer.ledger import Ledger
from buffer.streams import EXPERIENCE, META_RM, Address, Consumer, connect, waiting
from configs.schema import Config
from learner.experience import LOOK_S, GroupLimits, Reader, ReceivedGroup


class MetaIntake:
    """Rank 0 of the meta-RM learner at the buffer: whole groups, in the order in which they came."""

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
        self._unacknowledged: list[str] = []

    def recover(self, contained: Sequence[str]) -> None:
        """After a start: what the checkpoint contains is acknowledged, what else was claimed before is ready."""
        self._reader.acknowledge(contained)
        self._ready.extend(one for one in self._reader.claimed_before() if one.entry_id not in set(contained))

    def wait(self, seconds: float) -> list[ReceivedGroup]:
        """The next whole groups of at least ``meta_rm.batch`` completions, or nothing within ``seconds``. The backlog is
        bounded meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            self.bound()
            missing = self._batch - sum(len(one.group.rewards) for one in self._ready)
            if missing <= 0:
                return self._take()
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._ready.extend(self._reader.claim(min(left, LOOK_S), count=-(-missing // self._samples)))

    def bound(self) -> None:
        """Skip and count what has piled up beyond ``max_backlog`` (I4): the newest experience is the closest to the
        judgements that the meta-RM will be asked about."""
        self._ledger.skip_backlog(META_RM, self._max_backlog)

    def trained(self, batch: Sequence[ReceivedGroup]) -> None:
        self._unacknowledged += [one.entry_id for one in batch]

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Ids of the entries trained since the last checkpoint."""
        return tuple(self._unacknowledged)

    def saved(self) -> None:
        """A checkpoint holds everything trained so far: its entries need never come back."""
        self._reader.acknowledge(self._unacknowledged)
        self._unacknowledged = []

    def metrics(self) -> dict[str, float]:
        """meta_rm/backlog: groups that wait for the meta-RM; meta_rm/skipped: passed over since the run began."""
        behind = waiting(self._redis, self._run_id, EXPERIENCE, META_RM) + len(self._ready)
        return {"meta_rm/backlog": float(behind), "meta_rm/skipped": float(self._ledger.outcomes()["skipped"])}

    def close(self) -> None:
        self._redis.close()

    def _take(self) -> list[ReceivedGroup]:
        batch: list[ReceivedGroup] = []
        while sum(len(one.group.rewards) for one in batch) < self._batch:
            batch.append(self._ready.popleft())
        return batch
