"""The rollout actor on a real server, with a fake engine that decides when a group is finished."""

import threading
import time

import pytest
import redis

from actors.generator import Request
from actors.polling import rest_s
from buffer.heartbeat import last_heartbeats
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import View
from buffer.rollout_target import set_rollout_target
from buffer.stream_state import read_queues
from buffer.streams import PROMPTS, Address, dead_letters, lengths
from buffer.weights import Edition, PublishedWeights, WeightsRefused
from configs.load import load
from tests.actors.rollout_actors import CONFIG, SMALL, _ended, actor, handed_on, issue, look_now, weights, work_until
from tests.fakes import FakeEngine, LocalWeights

__all__ = ["_ended"]  # a fixture of all tests here


def test_each_prompt_becomes_one_group(client: redis.Redis, address: Address) -> None:
    issue(client, address, 10)
    worker = actor(address, FakeEngine(), LocalWeights())
    report = worker.work(2.0)
    groups = handed_on(client, address)
    assert sorted(g.prompt.group for g in groups) == list(range(10))
    assert all(len(g.completions) == 2 for g in groups)
    assert (report.groups, report.completions, report.lost, report.in_flight) == (10, 20, 0, 0)
    assert report.tokens == 80
    assert 0 < report.idle_s <= report.seconds
    assert lengths(client, address.run_id)["prompts"] == 0


def test_it_fills_its_engine_and_takes_one_more_that_waits_for_a_place(client: redis.Redis, address: Address) -> None:
    issue(client, address, 10)
    engine = FakeEngine(places=CONFIG.rollout.max_groups)
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    work_until(worker, lambda: sum(engine.batches) == 5)
    assert (worker.work(0.2).in_flight, engine.waiting) == (5, 1)
    engine.finish(3)
    assert worker.work(1.0).in_flight == 5, "two still running, three new ones"
    assert engine.batches[0] == 4
    assert sum(engine.batches) == 8
    assert len(handed_on(client, address)) == 3


def test_the_places_of_completions_that_ended_are_not_kept_for_their_group(client: redis.Redis, address: Address) -> None:
    """A group is two requests here: one of each of two groups ends, and the next group is claimed."""
    issue(client, address, 10, more=[View(permutation=(0, 1), token_ids=(7, 9), samples=2)])
    engine = FakeEngine(places=2 * CONFIG.rollout.max_groups)
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    work_until(worker, lambda: sum(engine.batches) == 2 * 5)
    engine._running = engine._running[::2] + engine._running[1::2]  # ours end first
    engine.finish(1)
    assert (worker.work(0.2).in_flight, engine.waiting) == (5, 1)
    engine.finish(1)
    work_until(worker, lambda: sum(engine.batches) == 2 * 6)
    assert handed_on(client, address) == []


def test_prompts_that_wait_are_submitted_together(client: redis.Redis, address: Address) -> None:
    issue(client, address, 4)
    engine = FakeEngine()
    work_until(actor(address, engine, LocalWeights()), lambda: engine.batches)
    assert engine.batches == [4]


def test_a_prompt_is_never_sampled_by_older_weights_than_its_issue(client: redis.Redis, address: Address) -> None:
    source, engine = LocalWeights(), FakeEngine()
    worker = actor(address, engine, source)
    source.publish(weights(1))
    Ledger(client, address.run_id).advance(1, [])
    issue(client, address, 2, version=1)
    worker._looked = time.monotonic() + 60  # it has not looked for newer weights of its own accord
    work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 2)
    assert all(min(c.versions) >= 1 for g in handed_on(client, address) for c in g.completions)
    assert engine.loaded == [1]


def test_newer_weights_are_pulled_while_groups_run(client: redis.Redis, address: Address) -> None:
    source, engine = LocalWeights(), FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, source)
    issue(client, address, 2)
    work_until(worker, lambda: sum(engine.batches) == 2)
    source.publish(weights(1))
    source.publish(weights(2))
    look_now(worker)
    reports = work_until(worker, lambda: engine.loaded)
    assert engine.loaded == [2]  # the newest, at once
    assert (sum(report.pulls for report in reports), reports[-1].version, reports[-1].in_flight) == (1, 2, 2)
    assert sum(report.pause_s for report in reports) > 0


def test_of_thousands_one_that_found_nothing_rests_until_it_has_finished_a_group(client: redis.Redis, address: Address) -> None:
    set_rollout_target(client, address.run_id, 100_000)  # 50 s, longer than the test
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    issue(client, address, 1)
    work_until(worker, lambda: engine.batches == [1])
    worker.work(0.2)  # claims in vain
    claims = list[int]()
    assert (rest_s(100), rest_s(1000)) == (0.0, pytest.approx(0.45))
    claim = worker._inbox.claim
    worker._inbox.claim = lambda *most, **how: claims.append(1) or claim(*most, **how)  # type: ignore[method-assign]
    issue(client, address, 1)
    worker.work(0.3)
    assert claims == []
    engine.finish()
    work_until(worker, lambda: len(engine.batches) == 2)
    assert claims


def test_stale_weights_stop_the_worker(client: redis.Redis, address: Address) -> None:
    class Backwards(LocalWeights):
        def newest(self) -> Edition:
            return Edition(0, 9)

    source = Backwards()
    source.publish(weights(0))
    worker = actor(address, FakeEngine(), source)
    with pytest.raises(WeightsRefused, match="stale"):
        worker.work(5.0)


def test_a_silent_worker_loses_its_groups_to_another_and_its_late_hand_off_too(client: redis.Redis, address: Address) -> None:
    issue(client, address, 3)
    hung = FakeEngine()
    hung.automatic = False
    silent = actor(address, hung, LocalWeights(), name="silent")
    work_until(silent, lambda: sum(hung.batches) == 3)
    silent._heartbeat._ended.set()  # as of a process that is stopped
    time.sleep(0.7)  # longer than claim_timeout_s
    other = actor(address, FakeEngine(), LocalWeights(), name="other")
    reports = work_until(other, lambda: lengths(client, address.run_id)["rollouts"] == 3)
    assert sum(report.groups for report in reports) == 3
    hung.finish()
    reports = work_until(silent, lambda: not silent._running)
    assert sum(report.lost for report in reports) == 3
    assert sorted(g.prompt.group for g in handed_on(client, address)) == [0, 1, 2]


def test_a_worker_that_hangs_in_its_engine_loses_its_groups_to_another(client: redis.Redis, address: Address) -> None:
    issue(client, address, 3)
    hung = FakeEngine()
    hung.automatic = False  # it never takes a step
    silent = actor(address, hung, LocalWeights(), name="silent", config=load("tiny", [*SMALL, "waits.hang_s=0.3"]))
    working = threading.Thread(target=silent.work, args=(3.0,))
    working.start()
    while sum(hung.batches) < 3:
        time.sleep(0.01)
    other = actor(address, FakeEngine(), LocalWeights(), name="other")
    reports = work_until(other, lambda: lengths(client, address.run_id)["rollouts"] == 3)
    assert sum(report.groups for report in reports) == 3
    working.join()


def test_a_worker_that_drains_hands_on_what_it_can_and_gives_the_rest_back(client: redis.Redis, address: Address) -> None:
    issue(client, address, 4)
    engine = FakeEngine()
    engine.automatic = False
    patient = load("tiny", [*SMALL, "redis.claim_timeout_s=600"])
    leaving = actor(address, engine, LocalWeights(), name="leaving", config=patient)
    work_until(leaving, lambda: sum(engine.batches) == 4)
    engine.finish(1)
    report = leaving.drain(1.0)
    assert (report.groups, report.given_back, report.in_flight) == (1, 3, 0)
    assert "leaving" not in last_heartbeats(client, address.run_id)
    heir = actor(address, FakeEngine(), LocalWeights(), name="heir", config=patient)
    reports = work_until(heir, lambda: lengths(client, address.run_id)["rollouts"] == 4)  # not after a claim timeout
    assert sum(report.groups for report in reports) == 3
    assert sorted(g.prompt.group for g in handed_on(client, address)) == [0, 1, 2, 3]


def test_a_learner_that_went_back_to_a_checkpoint_is_followed(client: redis.Redis, address: Address) -> None:
    source, engine = LocalWeights(), FakeEngine()
    worker = actor(address, engine, source)
    source.publish(weights(7, incarnation=1))
    look_now(worker)
    work_until(worker, lambda: engine.loaded)
    source.publish(weights(4, incarnation=2))
    Ledger(client, address.run_id).advance(1, [])
    issue(client, address, 1, version=1)
    look_now(worker)
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 1)
    assert (engine.loaded, reports[-1].version, sum(report.groups for report in reports)) == ([7, 4], 4, 1)


def test_a_prompt_waits_until_its_version_is_published_again(client: redis.Redis, address: Address) -> None:
    """The learner went back to a checkpoint: prompts that were issued at a later version are not sampled by older weights."""
    source, engine = LocalWeights(), FakeEngine()
    worker = actor(address, engine, source)
    issue(client, address, 1)
    Ledger(client, address.run_id).advance(1, [])
    issue(client, address, 1, version=1)
    source.publish(weights(0, incarnation=2))
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 1)
    assert (sum(report.groups for report in reports), reports[-1].in_flight) == (1, 0)
    assert len(worker._held) == 1  # the other is kept, and its claim renewed
    source.publish(weights(1, incarnation=2))
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 2)
    assert sum(report.groups for report in reports) == 1
    assert [max(c.versions) for g in handed_on(client, address) for c in g.completions] == [0, 0, 1, 1]


def test_weights_that_went_with_their_learner_are_waited_for(client: redis.Redis, address: Address) -> None:
    class Lost(LocalWeights):
        def pull(self) -> PublishedWeights | None:
            return None

    source = Lost()
    source.publish(weights(3, incarnation=1))
    issue(client, address, 1)
    worker = actor(address, FakeEngine(), source)
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 1)
    assert sum(report.groups for report in reports) == 1


def test_claims_are_renewed_while_it_works(client: redis.Redis, address: Address) -> None:
    issue(client, address, 3)
    slow = FakeEngine()
    slow.automatic = False
    patient = load("tiny", [*SMALL, "redis.claim_timeout_s=8.0"])
    worker = actor(address, slow, LocalWeights(), name="slow", config=patient)
    thief = actor(address, FakeEngine(), LocalWeights(), name="thief", config=patient)
    worker.work(3.5)  # heartbeats, each of which renews, come four times in a timeout
    (queue,) = [queue for queue in read_queues(client, address.run_id) if queue.stream == PROMPTS]
    assert len(queue.claims) == 3
    assert all(claim.age_s < claim.since_s - 1.0 for claim in queue.claims), "claimed long ago, and young"
    assert thief.work(0.05).groups == 0
    slow.finish()
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 3)
    assert sum(report.groups for report in reports) == 3


def test_a_group_that_is_too_large_to_hand_on_is_a_dead_letter_that_names_the_setting(
    client: redis.Redis, address: Address
) -> None:
    issue(client, address, 2)
    long = {(7, 8, 1): "x" * (1 << 20)}
    engine = FakeEngine(text=lambda request, sample: long.get(request.token_ids, "short"))
    worker = actor(address, engine, LocalWeights(), config=load("tiny", [*SMALL, "redis.max_entry_mb=1"]))
    work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 1 and dead_letters(client, address.run_id))
    (letter,) = dead_letters(client, address.run_id)
    assert letter.group == 0
    assert "redis.max_entry_mb" in letter.reason
    assert Ledger(client, address.run_id).outstanding() == {1: 0}, "its credit refills"


def test_a_group_is_handed_on_when_all_its_views_are_done_in_the_order_of_the_views(
    client: redis.Redis, address: Address
) -> None:
    issue(client, address, 2, more=[View(permutation=(0, 1), token_ids=(9,), samples=1)])
    engine = FakeEngine(text=lambda request, sample: f"{request.token_ids[-1]} {sample}")
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    work_until(worker, lambda: engine.batches)
    assert engine.batches == [4], "a request for each view, all submitted together"
    engine.finish(3)  # the first group, and the first view of the second
    reports = work_until(worker, lambda: lengths(client, address.run_id)["rollouts"])
    assert worker.work(0.2).in_flight == 1
    engine.finish()
    reports += work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 2)
    first, second = handed_on(client, address)
    assert [c.text for c in first.completions] == ["1 0", "1 1", "9 0"]
    assert [c.text for c in second.completions] == ["2 0", "2 1", "9 0"]
    assert first.prompt.permutations == ((1, 0), (1, 0), (0, 1))
    assert sum(report.completions for report in reports) == 6


def test_groups_that_end_together_are_handed_on_in_their_order(client: redis.Redis, address: Address) -> None:
    issue(client, address, 4, more=[View(permutation=(0, 1), token_ids=(9,), samples=1)])
    engine = FakeEngine()
    engine.automatic = False
    worker = actor(address, engine, LocalWeights())
    work_until(worker, lambda: engine.batches)
    engine._running.reverse()
    engine.finish()
    work_until(worker, lambda: lengths(client, address.run_id)["rollouts"] == 4)
    assert [group.prompt.group for group in handed_on(client, address)] == [0, 1, 2, 3]


def test_no_two_completions_of_a_seeded_group_share_a_seed(client: redis.Redis, address: Address) -> None:
    """An engine seeds completion i of a request with its seed + i."""
    others = [View(permutation=(0, 1), token_ids=(9,), samples=3)]
    asked: list[Request] = []
    engine = FakeEngine(text=lambda request, sample: asked.append(request) or "text")  # type: ignore[func-returns-value]
    issue(client, address, 1, more=others, seed=70)
    issue(client, address, 1, more=others)
    work_until(actor(address, engine, LocalWeights()), lambda: lengths(client, address.run_id)["rollouts"] == 2)
    seeds = list(dict.fromkeys((request.seed, request.samples) for request in asked))
    assert seeds == [(70, 2), (72, 3), (None, 2), (None, 3)]


def test_a_prompt_that_cannot_be_read_is_a_dead_letter_and_frees_its_credit(client: redis.Redis, address: Address) -> None:
    ledger = Ledger(client, address.run_id)
    ledger.issue([Offer(group=0, payload=b"\xc1 not msgpack", after=Cursor(group=1))], version=0, limit=8)
    work_until(actor(address, FakeEngine(), LocalWeights()), lambda: dead_letters(client, address.run_id))
    (letter,) = dead_letters(client, address.run_id)
    assert "prompt not readable" in letter.reason
    assert ledger.outstanding() == {}
    assert ledger.outcomes()["dead_letter"] == 1
