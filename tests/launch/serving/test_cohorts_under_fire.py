"""Cohorts while HTTP workers, judges and the Redis server die: one verdict for each, every vote that was kept paid once.

Workers and judges are objects here, which the storm drops between any two steps of theirs; the Redis server is a process, which
is killed and started again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from buffer.cohorts import Cohorts, Lease
from buffer.connection import Address, connect
from buffer.server import EmbeddedServer
from launch.serving.core import Core
from launch.serving.errors import ServingError
from launch.serving.protocol import CohortMember, MemberVerdict
from launch.serving.replica import JudgeReplica
from launch.serving.settings import ServerSettings
from tests.launch.judging.fake_judge import vote_plan_of
from tests.launch.serving.small_server import BAD, FAIR, GOOD, CountingEngine, LetterTokenizer, LocalJudges, wait_until

COHORTS, CALLERS, VOTES = 24, 8, 4
TEXTS = (GOOD, FAIR, BAD)
WORKERS = 3


class CountedCohorts(Cohorts):
    """Counts which votes were kept, and dies with its judge."""

    def __init__(self, address: Address, kept: Counter[tuple[str, int]]) -> None:
        super().__init__(connect(address), address.run_id)
        self._kept = kept
        self.dead = False

    def keep(self, lease: Lease, votes: Mapping[int, bytes], *, lease_s: float) -> bool:
        self._live()
        held = super().keep(lease, votes, lease_s=lease_s)
        if held:
            self._kept.update((lease.cohort, place) for place in votes)
        return held

    def finish(self, lease: Lease, verdict: bytes) -> bytes | None:
        self._live()
        return super().finish(lease, verdict)

    def release(self, lease: Lease) -> None:
        self._live()
        super().release(lease)

    def _live(self) -> None:
        if self.dead:
            raise RuntimeError("this judge was killed")


class KillableReplica(JudgeReplica):
    """A judge whose engine finishes when the storm says so, and that writes nothing more once it is dead."""

    def __init__(self, address: Address, kept: Counter[tuple[str, int]], owner: str) -> None:
        self.engine, self.cohorts = CountingEngine(), CountedCohorts(address, kept)
        self.engine.automatic = False
        how: dict[str, Any] = {"tokenizer": LetterTokenizer(), "plan": vote_plan_of(), "context": 2000, "meta": None}
        super().__init__(engine=self.engine, cohorts=self.cohorts, owner=owner, **how)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "redis") as server:
        yield server


class Storm:
    """The server's objects, which are replaced while it is asked."""

    def __init__(self, address: Address, rng: random.Random) -> None:
        self.address, self.rng = address, rng
        self.kept: Counter[tuple[str, int]] = Counter()
        self.deaths: Counter[str] = Counter()
        self.replicas = [KillableReplica(address, self.kept, f"judge {number}") for number in range(2)]
        self.judges = LocalJudges(self.replicas)
        self.workers = [self.worker() for _ in range(WORKERS)]
        self.calls: list[set[asyncio.Task[Any]]] = [set() for _ in range(WORKERS)]

    def worker(self) -> Core:
        settings = ServerSettings(model="small", votes=VOTES, collect_s=25.0, deadline_s=30.0)
        return Core(settings, Cohorts(connect(self.address), self.address.run_id), self.judges)

    def kill_judge(self) -> None:
        place = self.rng.randrange(len(self.replicas))
        self.replicas[place].cohorts.dead = True
        self.deaths["judge"] += 1
        self.replicas[place] = KillableReplica(self.address, self.kept, f"successor {self.deaths['judge']}")
        self.judges.replicas = list(self.replicas)

    def kill_worker(self) -> None:
        place = self.rng.randrange(WORKERS)
        self.workers[place] = self.worker()
        for call in self.calls[place]:
            call.cancel()
        self.deaths["worker"] += 1

    async def ask(self, number: int, slot: int) -> MemberVerdict:
        """Asks as a trainer does: until there is an answer."""
        member = CohortMember(
            tenant="t", query=f"q{number}", response=TEXTS[slot], group=f"g{number}", slot=slot, size=len(TEXTS)
        )
        while True:
            place = self.rng.randrange(WORKERS)
            call = asyncio.create_task(self.workers[place].member(member))
            self.calls[place].add(call)
            try:
                return await call
            except (asyncio.CancelledError, ServingError):
                await asyncio.sleep(0.01)
            finally:
                self.calls[place].discard(call)

    async def decode(self, blows: Sequence[Callable[[], None]]) -> None:
        """Lets the engines finish a few votes at a time. The blows come spread over the votes that are kept."""
        left = list(blows)
        while True:
            await asyncio.sleep(0.005)
            for replica in self.replicas:
                replica.engine.finish(self.rng.randrange(1, 6))
            fallen = len(blows) - len(left)
            if left and len(self.kept) > (fallen + 1) * COHORTS * VOTES // (len(blows) + 2):
                left.pop()()


@pytest.mark.parametrize("seed", range(2))
def test_one_verdict_for_each_cohort_and_no_kept_vote_is_paid_again(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("launch.serving.replica.LEASE_S", 0.5)
    rng = random.Random(seed)
    storm = Storm(Address(own_server.url, "storm"), rng)

    def restart_redis() -> None:
        own_server.kill()
        wait_until(lambda: not own_server.running)
        own_server.start()
        storm.deaths["redis"] += 1

    blows = [*[storm.kill_judge] * 6, *[storm.kill_worker] * 6, *[restart_redis] * 2]
    rng.shuffle(blows)

    async def run() -> dict[tuple[int, int], MemberVerdict]:
        members = [(number, slot) for number in range(COHORTS) for slot in range(len(TEXTS))]
        rng.shuffle(members)
        gate, found = asyncio.Semaphore(CALLERS * len(TEXTS)), {}

        async def one(number: int, slot: int) -> None:
            async with gate:
                found[number, slot] = await storm.ask(number, slot)

        decoding = asyncio.create_task(storm.decode(blows))
        order = sorted(members, key=lambda each: each[0] // CALLERS)  # the members of a cohort come within a wave
        await asyncio.wait_for(asyncio.gather(*(one(*each) for each in order)), 60)
        decoding.cancel()
        return found

    found = asyncio.run(run())
    assert len(found) == COHORTS * len(TEXTS)
    for number in range(COHORTS):
        verdicts = {found[number, slot].verdict for slot in range(len(TEXTS))}
        assert len(verdicts) == 1, "all members of a cohort get one verdict"
        (verdict,) = verdicts
        assert (verdict.cast, verdict.cut, verdict.short) == (VOTES, 0, False)
        assert [found[number, slot].score for slot in range(len(TEXTS))] == [9, 6, 2]
    assert len(storm.kept) == COHORTS * VOTES
    assert set(storm.kept.values()) == {1}, "a vote that was kept is never asked for again"
    assert storm.deaths == {"judge": 6, "worker": 6, "redis": 2}
