"""The Redis server is killed twenty times while a driver, a rollout actor and a reward actor write: what it acknowledged is
there afterwards, once, although a client whose answer was lost asks again and its command may run twice.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from buffer import streams
from buffer.ledger import Cursor, Ledger, Offer
from buffer.server import EmbeddedServer
from buffer.server_watchdog import ServerWatchdog
from buffer.streams import EXPERIENCE, PROMPTS, REWARD, ROLLOUT, ROLLOUTS, Address, Consumer, connect

pytestmark = pytest.mark.chaos

DEATHS = 20
LIMIT = 10**9  # no bound on what is issued: this is about the server, not about credit


class Writers:
    """The three writers of a run, each on its own connection, and what the server acknowledged to each of them."""

    def __init__(self, server: EmbeddedServer, run_id: str) -> None:
        self._address = Address(server.url, run_id)
        self.issued: list[int] = []
        self.handed: dict[str, list[int]] = {ROLLOUTS: [], EXPERIENCE: []}
        self.done = threading.Event()

    def issue(self) -> None:
        ledger = Ledger(connect(self._address), self._address.run_id)
        while not self.done.is_set():
            if len(self.issued) - len(self.handed[EXPERIENCE]) > 200:
                time.sleep(0.001)
                continue
            first = ledger.cursor().group
            offers = [Offer(group=g, payload=b"%d" % g, after=Cursor(group=g + 1)) for g in range(first, first + 4)]
            assert ledger.issue(offers, version=0, limit=LIMIT) == len(offers)
            self.issued += [offer.group for offer in offers]

    def hand_on(self, source: str, group: str, destination: str) -> None:
        consumer = Consumer(connect(self._address), self._address.run_id, source, group, "only", claim_timeout_s=60)
        held = consumer.own_pending()
        while held or not self.done.is_set():
            for entry in held:
                assert consumer.hand_off(entry, destination, entry.payload), "its own call, asked again, counts as another's"
                self.handed[destination].append(entry.group)
            held = consumer.claim(8, block_s=0.2) or consumer.own_pending()  # an answer that was lost holds claims too

    def all(self) -> list[Callable[[], None]]:
        return [
            self.issue,
            lambda: self.hand_on(PROMPTS, ROLLOUT, ROLLOUTS),
            lambda: self.hand_on(ROLLOUTS, REWARD, EXPERIENCE),
        ]


def test_what_a_killed_server_acknowledged_is_there_once(tmp_path: Path) -> None:
    server, chance = EmbeddedServer(tmp_path / "redis"), random.Random(0)
    server.start()
    watchdog = ServerWatchdog(server, tries=10**6)
    writers = Writers(server, "deaths")
    try:
        with connect(Address(server.url, "deaths")) as client:
            streams.setup(client, "deaths", meta_rm=False)
            with ThreadPoolExecutor(3) as pool:
                running = [pool.submit(write) for write in writers.all()]
                try:
                    for _ in range(DEATHS):
                        kill_while_writing(server, writers, chance)
                finally:
                    writers.done.set()
                for one in running:
                    one.result(60)
            issued, stream = Ledger(client, "deaths").cursor().group, groups(client, EXPERIENCE)
            left = groups(client, PROMPTS) + groups(client, ROLLOUTS)
    finally:
        watchdog.stop()
    assert watchdog.deaths == DEATHS
    assert set(writers.issued) <= set(range(issued)), "an acknowledged issue was lost"
    assert set(writers.handed[ROLLOUTS]) <= set((stream + left).elements()), "an acknowledged hand-off was lost"
    assert set(writers.handed[EXPERIENCE]) <= set(stream), "an acknowledged hand-off was lost"
    assert stream + left == Counter(range(issued)), "a group is there twice, or not at all"
    assert len(stream) > 100 * DEATHS  # it was killed while it wrote, not while it idled


def kill_while_writing(server: EmbeddedServer, writers: Writers, chance: random.Random) -> None:
    """SIGKILL, some moments after all three had written something since the last time."""
    before = len(writers.handed[EXPERIENCE])
    deadline = time.monotonic() + 60
    while len(writers.handed[EXPERIENCE]) < before + 100:
        assert time.monotonic() < deadline, "nobody writes any more"
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.1))
    doomed = server.pid
    assert doomed is not None
    os.kill(doomed, signal.SIGKILL)
    while server.pid == doomed:
        assert time.monotonic() < deadline, "the server is not started again"
        time.sleep(0.01)


def groups(client: redis.Redis, stream: str) -> Counter[int]:
    entries = client.xrange(streams.key("deaths", stream))
    return Counter(int(fields[b"g"]) for _, fields in entries)
