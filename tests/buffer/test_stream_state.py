"""The state of the streams on a real server: what waits, and which worker holds what."""

import time

import pytest
import redis

from buffer import streams
from buffer.stream_state import LISTED, REASONS, Queue, newest_dead_reasons, read_queues
from buffer.streams import DEAD_KEPT, EXPERIENCE, GRPO, META_RM, PROMPTS, REWARD, ROLLOUT, ROLLOUTS, ServerError, key
from tests.buffer.run_by_hand import Run


def state(run: Run) -> dict[tuple[str, str], Queue]:
    return {(queue.stream, queue.reader): queue for queue in read_queues(run.client, run.run_id)}


def test_a_run_at_rest_has_empty_queues_in_the_order_of_the_loop(steady_run: Run) -> None:
    assert read_queues(steady_run.client, steady_run.run_id) == [
        Queue(stream=PROMPTS, reader=ROLLOUT),
        Queue(stream=ROLLOUTS, reader=REWARD),
        Queue(stream=EXPERIENCE, reader=GRPO),
        Queue(stream=EXPERIENCE, reader=META_RM),
    ]


def test_each_claim_has_its_owner_age_and_deliveries(run: Run) -> None:
    run.issue(6)
    first, second = run.consumer(PROMPTS, "rollout-0"), run.consumer(PROMPTS, "rollout-1")
    first.claim(2, block_s=0)
    time.sleep(0.1)
    second.claim(1, block_s=0)
    queue = state(run)[PROMPTS, ROLLOUT]
    assert (queue.waiting, queue.pending) == (4, 2)
    assert queue.unclaimed == (2, 3, 4, 5)
    assert [(claim.group, claim.owner, claim.deliveries) for claim in queue.claims] == [
        (0, "rollout-1", 2),
        (1, "rollout-0", 1),
    ]
    taken_over, held = queue.claims
    assert held.age_s - taken_over.age_s >= 0.09
    assert held.age_s < 60
    assert 0.09 <= held.since_s == pytest.approx(taken_over.since_s, abs=0.05)
    assert queue.oldest_s == pytest.approx(held.since_s, abs=0.05)


def test_a_renewed_claim_is_young_though_its_entry_is_old(steady_run: Run) -> None:
    steady_run.issue(1)
    worker = steady_run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60)
    (entry,) = worker.claim(1, block_s=0)
    time.sleep(0.15)
    worker.renew([entry.id])
    (claim,) = state(steady_run)[PROMPTS, ROLLOUT].claims
    assert claim.since_s - claim.age_s >= 0.14
    assert claim.deliveries == 1


def test_reading_the_state_claims_and_renews_nothing(steady_run: Run) -> None:
    steady_run.issue(3)
    steady_run.consumer(PROMPTS, "rollout-0").claim(1, block_s=0)
    before = state(steady_run)[PROMPTS, ROLLOUT]
    time.sleep(0.06)
    after = state(steady_run)[PROMPTS, ROLLOUT]
    assert (after.waiting, after.pending) == (before.waiting, before.pending) == (2, 1)
    assert after.claims[0].deliveries == 1
    assert after.claims[0].age_s > before.claims[0].age_s


def test_what_was_given_back_waits_again(steady_run: Run) -> None:
    steady_run.issue(3)
    leaver = steady_run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60)
    leaver.claim(2, block_s=0)
    time.sleep(0.01)
    assert leaver.leave() == 2
    queue = state(steady_run)[PROMPTS, ROLLOUT]
    assert (queue.waiting, queue.pending, queue.claims) == (3, 0, ())
    assert sorted(number for number in queue.unclaimed if number is not None) == [0, 1, 2]
    assert 0 < queue.oldest_s < 5


def test_each_reader_of_experience_has_a_state_of_its_own(steady_run: Run) -> None:
    steady_run.issue(4)
    steady_run.score()
    steady_run.learner().claim(3, block_s=0)
    queues = state(steady_run)
    assert (queues[EXPERIENCE, GRPO].waiting, queues[EXPERIENCE, GRPO].pending) == (1, 3)
    assert (queues[EXPERIENCE, META_RM].waiting, queues[EXPERIENCE, META_RM].pending) == (4, 0)
    assert [claim.owner for claim in queues[EXPERIENCE, GRPO].claims] == ["rank-0"] * 3


def test_only_the_oldest_are_listed_but_all_are_counted(steady_run: Run) -> None:
    count = 3 * LISTED[EXPERIENCE]
    steady_run.issue(count)
    steady_run.score()
    steady_run.learner().claim(count - 20, block_s=0)
    queue = state(steady_run)[EXPERIENCE, GRPO]
    assert (queue.pending, queue.waiting) == (count - 20, 20)
    assert [claim.group for claim in queue.claims] == list(range(LISTED[EXPERIENCE]))
    assert len(queue.unclaimed) == LISTED[EXPERIENCE]


def test_dead_letters_are_counted_by_stream_and_the_newest_are_kept(steady_run: Run) -> None:
    count = DEAD_KEPT + 40
    steady_run.issue(count)
    worker = steady_run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60)
    for entry in worker.claim(count, block_s=0):
        worker.dead_letter(entry, f"poison in group {entry.group}")
    steady_run.client.xadd(key(steady_run.run_id, ROLLOUTS), {"z": b""})
    assert steady_run.consumer(ROLLOUTS, "reward-0").claim(1, block_s=0) == []
    queues = state(steady_run)
    assert {stream: queue.dead for (stream, _), queue in queues.items()} == {PROMPTS: count, ROLLOUTS: 1, EXPERIENCE: 0}
    kept = streams.dead_letters(steady_run.client, steady_run.run_id)
    assert [letter.group for letter in kept] == [*range(count - DEAD_KEPT + 1, count), None]
    malformed, *poison = newest_dead_reasons(steady_run.client, steady_run.run_id)
    assert malformed.startswith("malformed entry")
    assert poison == [f"poison in group {count - 1 - i}" for i in range(REASONS - 1)]
    assert steady_run.ledger.outcomes()["dead_letter"] == count


def test_an_entry_without_a_number_or_that_is_gone_has_no_group(steady_run: Run) -> None:
    name = key(steady_run.run_id, PROMPTS)
    steady_run.client.xadd(name, {"p": b"x"})
    steady_run.client.xadd(name, {"g": b"-1", "p": b"x"})
    assert state(steady_run)[PROMPTS, ROLLOUT].unclaimed == (None, None)
    steady_run.client.xreadgroup(ROLLOUT, "rollout-0", {name: ">"}, count=2)
    steady_run.client.xtrim(name, maxlen=0)
    assert [claim.group for claim in state(steady_run)[PROMPTS, ROLLOUT].claims] == [None, None]


def test_a_run_without_streams_is_named(client: redis.Redis) -> None:
    with pytest.raises(ServerError, match="never-set-up"):
        read_queues(client, "never-set-up")


def test_without_a_meta_rm_it_is_not_among_the_readers(client: redis.Redis, steady_run: Run) -> None:
    other = f"{steady_run.run_id}-plain"
    streams.setup(client, other, meta_rm=False)
    assert [(queue.stream, queue.reader) for queue in read_queues(client, other)] == [
        (PROMPTS, ROLLOUT),
        (ROLLOUTS, REWARD),
        (EXPERIENCE, GRPO),
    ]
    streams.remove(client, other)
