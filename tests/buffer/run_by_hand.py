"""A run moved along by hand, for the tests of the buffer."""

import redis

from buffer import streams
from buffer.ledger import Cursor, Ledger, Offer
from buffer.streams import Consumer


class Run:
    """A run with its ledger, consumers in each role, and rollout groups that are moved along by hand."""

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self.ledger = Ledger(client, run_id)

    def consumer(self, stream: str, name: str = "a", **options: object) -> Consumer:
        consumer_group = dict(streams.READERS)[stream]
        settings = {"claim_timeout_s": 0.05, **options}
        return Consumer(self.client, self.run_id, stream, consumer_group, name, **settings)  # type: ignore[arg-type]

    def learner(self, consumer_group: str = streams.GRPO) -> Consumer:
        return Consumer(
            self.client, self.run_id, streams.EXPERIENCE, consumer_group, "rank-0", claim_timeout_s=None, max_deliveries=None
        )

    def issue(self, count: int, limit: int = 1000) -> int:
        """Offer `count` groups that continue from the cursor, at the current version."""
        first = self.ledger.cursor().group
        return self.ledger.issue(offers(first, count), version=self.ledger.version(), limit=limit)

    def score(self, count: int = 1000) -> int:
        """Take up to `count` groups from prompts to experience, as healthy workers do."""
        for stream, following in ((streams.PROMPTS, streams.ROLLOUTS), (streams.ROLLOUTS, streams.EXPERIENCE)):
            worker = self.consumer(stream, claim_timeout_s=60)
            entries = worker.claim(count, block_s=0)
            assert all(worker.hand_off(entry, following, b"group %d" % entry.group) for entry in entries)
        return len(entries)

    def length(self, stream: str) -> int:
        return int(self.client.xlen(streams.key(self.run_id, stream)))

    def groups_in(self, stream: str) -> list[int]:
        return [int(fields[b"g"]) for _, fields in self.client.xrange(streams.key(self.run_id, stream))]


def offers(first: int, count: int) -> list[Offer]:
    return [
        Offer(group=group, payload=b"prompt %d" % group, after=Cursor(group=group + 1, epoch=group // 7, index=group % 7))
        for group in range(first, first + count)
    ]


def repeat_writes(client: redis.Redis) -> redis.Redis:
    """Send every command twice and drop the first answer, as a client does that repeats a call after a broken connection."""
    once = client.execute_command

    def twice(*args: object, **options: object) -> object:
        once(*args, **options)
        return once(*args, **options)

    client.execute_command = twice  # type: ignore[method-assign]
    return client


def balanced(ledger: Ledger) -> bool:
    """Whether issued = outstanding + trained + filtered + dropped + dead_letter."""
    outcomes = ledger.outcomes()
    settled = outcomes["trained"] + outcomes["filtered"] + outcomes["dropped"] + outcomes["dead_letter"]
    return outcomes["issued"] == len(ledger.outstanding()) + settled
