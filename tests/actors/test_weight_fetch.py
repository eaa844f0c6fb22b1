"""A rollout actor goes on while newer weights are fetched: on a real server, with a fake engine and a transport that waits."""

import threading
from collections.abc import Iterator

import pytest
import redis

from actors.generator import Request
from actors.weight_fetch import WeightFetch
from buffer.ledger import Ledger
from buffer.streams import Address, lengths
from buffer.weights import Edition, PublishedWeights, WeightsRefused
from tests.actors.rollout_actors import _ended, actor, handed_on, issue, look_now, weights, work_until
from tests.fakes import FakeEngine, LocalWeights

__all__ = ["_ended"]  # a fixture of all tests here

ASKED = [Request(token_ids=(1, 2), samples=1, temperature=0.0, max_new_tokens=8)]


class SlowWeights(LocalWeights):
    """Weights that arrive when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.arrive, self.asked = threading.Event(), threading.Event()

    def pull(self) -> PublishedWeights:
        newest = super().pull()
        self.asked.set()
        assert self.arrive.wait(60)
        return newest


@pytest.fixture
def source() -> Iterator[SlowWeights]:
    made = SlowWeights()
    yield made
    made.arrive.set()


def test_groups_are_claimed_and_handed_on_while_weights_are_fetched(
    client: redis.Redis, address: Address, source: SlowWeights
) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, source)
    issue(client, address, 2)
    work_until(worker, lambda: sum(engine.batches) == 2)
    source.publish(weights(1))
    look_now(worker)
    work_until(worker, source.asked.is_set)
    engine.finish()
    work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 2)
    issue(client, address, 1)
    work_until(worker, lambda: sum(engine.batches) == 3)
    assert engine.loaded == []
    source.arrive.set()
    (report, *_) = reversed(work_until(worker, lambda: engine.loaded))
    assert (engine.loaded, report.pulls, report.in_flight, report.version) == ([1], 1, 1, 1)


def test_a_prompt_waits_for_its_weights_and_no_older_one_does(
    client: redis.Redis, address: Address, source: SlowWeights
) -> None:
    engine = FakeEngine()
    worker = actor(address, engine, source)
    source.publish(weights(1))
    issue(client, address, 1)
    Ledger(client, address.run_id).advance(1, [])
    issue(client, address, 2, version=1)
    work_until(worker, lambda: source.asked.is_set() and lengths(client, address.run_id)["rollouts"] == 1)
    assert worker.work(0.3).idle_s > 0.2, "it has prompts, and nothing to decode"
    assert engine.batches == [1], "of the older version"
    source.arrive.set()
    work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 3)
    assert engine.batches == [1, 2], "those that wait are submitted together"
    versions = {g.prompt.issued_at: {v for c in g.completions for v in c.versions} for g in handed_on(client, address)}
    assert versions == {0: {0}, 1: {1}}


def test_what_is_judged_waits_for_its_version_while_groups_are_handed_on(
    client: redis.Redis, address: Address, source: SlowWeights
) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, source)
    issue(client, address, 1)
    work_until(worker, lambda: engine.batches)
    source.publish(weights(1))
    look_now(worker)
    work_until(worker, source.asked.is_set)
    source.publish(weights(2))  # while version 1 is on its way
    engine.finish()
    judging = threading.Thread(target=worker.judge, args=(ASKED,), kwargs={"version": 2})
    judging.start()
    while lengths(client, address.run_id)["rollouts"] < 1:
        assert judging.is_alive()
    assert engine.batches == [1], "nothing is judged by older weights"
    source.arrive.set()
    judging.join(60)
    assert (engine.loaded, engine.batches) == ([1, 2], [1, 1])


def test_a_fetch_that_fails_ends_the_slice_with_its_error(client: redis.Redis, address: Address) -> None:
    class Broken(LocalWeights):
        def pull(self) -> PublishedWeights:
            raise TimeoutError("process 7 waited 60 s for the newest weights to arrive")

    source = Broken()
    source.publish(weights(1))
    worker = actor(address, FakeEngine(), source)
    with pytest.raises(TimeoutError, match="process 7 waited"):
        worker.work(20.0)


def test_torn_weights_are_refused_before_they_are_taken() -> None:
    source = SlowWeights()
    source.publish(weights(1))
    source.published[0].arrays["w"].setflags(write=True)
    source.published[0].arrays["w"][0] = 1.0
    source.arrive.set()
    fetch = WeightFetch(source)
    fetch.start_if_newer(Edition(0, 0))
    (future,) = fetch.under_way
    assert isinstance(future.exception(60), WeightsRefused)
    with pytest.raises(WeightsRefused, match="torn"):
        fetch.take()
    assert (fetch.take(), fetch.under_way) == (None, ())


def test_one_fetch_at_a_time_and_none_of_what_is_no_newer() -> None:
    source = SlowWeights()
    source.publish(weights(1))
    fetch = WeightFetch(source)
    fetch.start_if_newer(Edition(0, 1))
    assert fetch.under_way == ()
    fetch.start_if_newer(Edition(0, 0))
    first = fetch.under_way
    fetch.start_if_newer(Edition(0, 0))
    assert fetch.under_way == first
    assert fetch.take() is None, "not here yet"
    source.arrive.set()
    assert first[0].result(60) is not None
    taken = fetch.take()
    assert taken is not None
    assert taken.weights.version == 1
