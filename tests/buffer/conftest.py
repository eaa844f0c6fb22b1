"""One real server for the session; for each test a fresh run on it, and what is left of it removed."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from buffer import streams
from buffer.ledger import Cursor, Ledger, Offer
from buffer.server import EmbeddedServer
from buffer.streams import Address, Consumer

_number = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory(prefix="spct-test-") as folder, EmbeddedServer(Path(folder)) as running:
        yield running


@pytest.fixture
def address(server: EmbeddedServer) -> Address:
    return Address(server.url, f"test-{os.getpid()}-{next(_number)}")


@pytest.fixture
def client(address: Address) -> Iterator[redis.Redis]:
    """A connection to a run that is set up with a meta-RM."""
    connection = streams.connect(address)
    streams.setup(connection, address.run_id, meta_rm=True)
    yield connection
    streams.remove(connection, address.run_id)
    connection.close()


def repeat_writes(client: redis.Redis) -> redis.Redis:
    """Every command is sent twice and the first answer lost, as when a client asks again after a broken connection."""
    once = client.execute_command

    def twice(*args: object, **options: object) -> object:
        once(*args, **options)
        return once(*args, **options)

    client.execute_command = twice  # type: ignore[method-assign]
    return client


@pytest.fixture(params=["answered", "asked twice"])
def run(request: pytest.FixtureRequest, client: redis.Redis, address: Address) -> "Run":
    """The run through a good connection, and through one on which every command runs twice."""
    return Run(client if request.param == "answered" else repeat_writes(client), address.run_id)


@pytest.fixture
def steady_run(client: redis.Redis, address: Address) -> "Run":
    return Run(client, address.run_id)


class Run:
    """A run as the tests see it: its ledger, consumers in each role, and a group moved along by hand."""

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self.ledger = Ledger(client, run_id)

    def consumer(self, stream: str, name: str = "a", **options: object) -> Consumer:
        group = dict(streams.READERS)[stream]
        settings = {"claim_timeout_s": 0.05, **options}
        return Consumer(self.client, self.run_id, stream, group, name, **settings)  # type: ignore[arg-type]

    def learner(self, group: str = streams.GRPO) -> Consumer:
        return Consumer(
            self.client, self.run_id, streams.EXPERIENCE, group, "rank-0", claim_timeout_s=None, max_deliveries=None
        )

    def issue(self, count: int, limit: int = 1000) -> int:
        """Offer ``count`` groups that continue from the cursor, at the current version."""
        first = self.ledger.cursor().group
        return self.ledger.issue(offers(first, count), version=self.ledger.version(), limit=limit)

    def score(self, count: int = 1000) -> int:
        """Take up to ``count`` groups from prompts to experience, as healthy workers do."""
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
