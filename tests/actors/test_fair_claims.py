"""Prompts are spread over the engines, whoever claims first: real actors on a real server, engines that decode by steps."""

import itertools
import random
import time
from collections.abc import Sequence

import pytest
import redis

from actors.rollout import RolloutActor
from buffer.rollout_target import set_rollout_target
from buffer.streams import REWARD, ROLLOUTS, Address, Consumer
from configs.load import load
from tests.actors.rollout_actors import _ended, actor, issue, work_until
from tests.fakes import FakeEngine, LocalWeights

__all__ = ["_ended"]  # a fixture of all tests here

ENGINES, FULL, BATCH = 16, 8, 16  # groups in a full engine, groups of an optimiser step
CREDIT = 6 * FULL
WARM, TURNS = 20, 140
SLICE_S = 0.0025  # of an actor between two steps of the engines: one turn


class SteppedEngine(FakeEngine):
    """Decodes by steps that the test takes, up to `places` requests at a time: each takes 10 to 20 steps."""

    def __init__(self, places: int, seed: int = 0) -> None:
        super().__init__(places=places)
        self.automatic = False
        self.idle = 0
        self._random = random.Random(seed)
        self._left: list[int] = []
        self._new = 0  # submitted since it last looked for places

    @property
    def waiting(self) -> int:
        return self._new + max(0, len(self._left) - self._new - self.places)

    def submit(self, requests):  # type: ignore[no-untyped-def]
        futures = super().submit(requests)
        self._left += [self._random.randint(10, 20) for _ in requests]
        self._new += len(requests)
        return futures

    def give_places(self) -> None:
        self._new = 0

    def step(self) -> None:
        self.give_places()
        self.idle += not self._left
        decoded = self._left[: self.places]
        self._left = [left - 1 for left in decoded] + self._left[self.places :]
        for place in reversed([i for i, left in enumerate(self._left) if left == 0]):
            del self._left[place]
            self._running.insert(0, self._running.pop(place))
            self.finish(1)


class Clock:
    """Time as an actor sees it: each look takes 1 ms. So what it does in a slice does not hang on how busy the machine is."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def monotonic(self) -> float:
        return next(self._ticks) / 1000


def workers(address: Address, engines: Sequence[FakeEngine], target: int) -> list[RolloutActor]:
    config = load("tiny", [f"rollout.max_groups={FULL}", f"rollout.workers={target}", "redis.claim_timeout_s=60"])
    return [actor(address, each, LocalWeights(), name=f"r{i}", config=config) for i, each in enumerate(engines)]


def test_sixteen_engines_share_the_credit_of_six(
    client: redis.Redis, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.rollout.time", Clock())
    engines = [SteppedEngine(FULL, seed=i) for i in range(ENGINES)]
    crew = workers(address, engines, ENGINES)
    reader, order = Consumer(client, address.run_id, ROLLOUTS, REWARD, "test", claim_timeout_s=60), random.Random(0)
    issue(client, address, CREDIT)
    ready = batches = 0
    for turn in range(TURNS):
        if turn == WARM:
            for engine in engines:
                engine.idle = 0
        for worker in order.sample(crew, ENGINES):  # whoever comes first
            worker.work(SLICE_S)
        for engine in engines:
            engine.step()
        ready += reader.ack([entry.id for entry in reader.claim(CREDIT, block_s=0)])
        if ready >= BATCH:  # the learner's step, and new credit
            ready, batches = ready - BATCH, batches + 1
            issue(client, address, BATCH)
    assert batches > TURNS / 12, "the run went on"
    idle = [engine.idle / (TURNS - WARM) for engine in engines]

    assert max(idle) < 0.1, idle


def test_nothing_more_is_claimed_while_something_waits_in_the_engine(client: redis.Redis, address: Address) -> None:
    engine = SteppedEngine(places=2)
    (worker,) = workers(address, [engine], target=1)
    issue(client, address, 3)
    work_until(worker, lambda: sum(engine.batches) == 3)
    engine.step()
    issue(client, address, 1)
    assert (engine.waiting, worker.work(0.2).in_flight) == (1, 3)
    while engine.waiting:
        engine.step()
    work_until(worker, lambda: sum(engine.batches) == 4)


def test_a_share_that_nobody_comes_for_is_taken_after_a_while(client: redis.Redis, address: Address) -> None:
    engine = SteppedEngine(places=FULL)
    set_rollout_target(client, address.run_id, 4)  # the others find no place in the cluster
    (worker,) = workers(address, [engine], target=1)
    issue(client, address, FULL)
    work_until(worker, lambda: engine.batches)
    assert engine.batches == [FULL // 4]
    while sum(engine.batches) < FULL:
        engine.give_places()
        worker.work(0.1)
    assert engine.batches == [FULL // 4] + [1] * (FULL - FULL // 4)
