"""What a rollout actor judges beside the groups that it rolls out: on a real server, with a fake engine."""

import threading
import time

import redis

from actors.generator import Request
from buffer.streams import Address, lengths
from configs.load import load
from tests.actors.rollout_actors import SMALL, _ended, actor, handed_on, issue, weights, work_until
from tests.fakes import FakeEngine, LocalWeights

__all__ = ["_ended"]  # a fixture of all tests here

ASKED = [Request(token_ids=(1, 2), samples=1, temperature=0.0, max_new_tokens=8)] * 5


def test_what_is_judged_is_sampled_under_its_version_or_a_newer_one(client: redis.Redis, address: Address) -> None:
    source, engine = LocalWeights(), FakeEngine()
    worker = actor(address, engine, source)
    source.publish(weights(3))
    worker.judge(ASKED, version=3)
    answers = worker.judged(0.0)
    assert answers is not None
    assert len(answers) == 5
    assert {v for (c,) in answers for v in c.versions} == {3}


def test_it_claims_and_hands_on_while_it_judges(client: redis.Redis, address: Address) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    worker.judge(ASKED, version=0)
    issue(client, address, 2)
    work_until(worker, lambda: sum(engine.batches) == 5 + 2)  # prompts are claimed while an evaluation runs
    assert worker.judged(0.0) == 0
    engine.finish(5)
    answers = worker.judged(0.0)
    assert answers is not None
    assert len(answers) == 5
    engine.finish(1)
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 1)
    assert (sum(report.groups for report in reports), reports[-1].in_flight) == (1, 1)
    assert len(handed_on(client, address)) == 1


def test_groups_are_handed_on_while_answers_are_waited_for(client: redis.Redis, address: Address) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    issue(client, address, 2)
    work_until(worker, lambda: sum(engine.batches) == 2)
    worker.judge(ASKED, version=0)
    engine.finish(2)  # the groups
    finishing = threading.Timer(0.5, engine.finish)
    finishing.start()
    assert not isinstance(worker.judged(10.0), int)
    finishing.join()
    assert len(handed_on(client, address)) == 2


def test_a_slice_ends_when_the_answers_are_complete_and_only_once(client: redis.Redis, address: Address) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    worker.judge(ASKED, version=0)
    threading.Timer(0.2, engine.finish).start()
    assert worker.work(30.0).seconds < 15
    began = time.monotonic()
    worker.work(0.3)  # nobody asked for them yet
    assert time.monotonic() - began >= 0.3
    assert not isinstance(worker.judged(0.0), int)


def test_an_engine_that_stands_still_under_an_evaluation_hangs_and_one_without_work_does_not(
    client: redis.Redis, address: Address
) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights(), config=load("tiny", [*SMALL, "waits.hang_s=0.2"]))
    worker.judge(ASKED, version=0)
    with worker._heartbeat.activity("roll out"):
        time.sleep(0.3)
        worker._note_progress()
        assert worker._heartbeat.hung, "its engine has requests and takes no step"
        engine.finish()
        worker._note_progress()
        assert not worker._heartbeat.hung


def test_the_engine_is_not_idle_while_it_judges(client: redis.Redis, address: Address) -> None:
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    assert worker.work(0.3).idle_s > 0.2
    worker.judge(ASKED, version=0)
    assert worker.work(0.3).idle_s == 0


def test_the_time_of_each_group_in_the_engine_is_reported(client: redis.Redis, address: Address) -> None:
    issue(client, address, 2)
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    work_until(worker, lambda: sum(engine.batches) == 2)
    time.sleep(0.2)
    engine.finish()
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 2)
    latencies = [latency for report in reports for latency in report.latencies_s]
    assert len(latencies) == 2
    assert all(0.2 < latency < 20 for latency in latencies)
