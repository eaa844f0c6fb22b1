"""Rollout actors on a real server, with a fake engine that decides when a group is finished."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import redis

from actors.rollout import RolloutActor
from actors.rollout_report import RolloutReport
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import Prompt, RolloutGroup, View, decode, encode
from buffer.streams import REWARD, ROLLOUTS, Address, Consumer
from buffer.weights import PublishedWeights, seal
from configs.load import load
from configs.schema import Config
from tests.fakes import FakeEngine, LocalWeights

SMALL = ["rollout.max_groups=4", "redis.claim_timeout_s=0.4"]
CONFIG = load("tiny", SMALL)


def issue(
    client: redis.Redis,
    address: Address,
    count: int,
    *,
    version: int = 0,
    more: Sequence[View] = (),
    seed: int | None = None,
) -> None:
    """Prompts of a view with two samples, and of the views `more`."""
    ledger = Ledger(client, address.run_id)
    first = ledger.cursor().group
    offers = []
    for group in range(first, first + count):
        views = (View(permutation=(1, 0), token_ids=(7, 8, group + 1), samples=2), *more)
        prompt = Prompt(group=group, preference=f"p{group}", views=views, issued_at=version, seed=seed)
        offers.append(Offer(group=group, payload=encode(prompt), after=Cursor(group=group + 1)))
    assert ledger.issue(offers, version=version, limit=1 << 20) == count


_made: list[RolloutActor] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """The actors of a test send heartbeats no longer than the test lasts."""
    yield
    while _made:
        _made.pop()._heartbeat.stop()


def actor(
    address: Address, engine: FakeEngine, source: LocalWeights, *, name: str = "r0", config: Config = CONFIG
) -> RolloutActor:
    _made.append(RolloutActor(config=config, name=name, address=address, source=source, build=lambda: engine))
    _made[-1].ready()
    return _made[-1]


def work_until(worker: RolloutActor, holds: Callable[[], object]) -> list[RolloutReport]:
    """The reports of as many slices as it takes."""
    reports, deadline = list[RolloutReport](), time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        reports.append(worker.work(0.1))
    return reports


def look_now(worker: RolloutActor) -> None:
    """Its next turn looks for newer weights, however short ago the last look was."""
    worker._looked = -1e9


def handed_on(client: redis.Redis, address: Address) -> list[RolloutGroup]:
    reader = Consumer(client, address.run_id, ROLLOUTS, REWARD, "test", claim_timeout_s=60)
    return [decode(entry.payload, RolloutGroup) for entry in reader.claim(100, block_s=0)]


def weights(version: int, *, incarnation: int = 0) -> PublishedWeights:
    return seal(version, {"w": np.zeros(2, np.float32)}, {"w": "float32"}, incarnation=incarnation)
