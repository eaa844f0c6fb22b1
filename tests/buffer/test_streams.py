"""Contract of the streams on a real server: claims, renewal, hand-off (I1), reclaim, dead letters, namespaces (I5)."""

import itertools
import random
import threading
import time

import pytest

from buffer import streams
from buffer.streams import (
    DEAD,
    EXPERIENCE,
    META_RM,
    PROMPTS,
    ROLLOUT,
    ROLLOUTS,
    Address,
    Consumer,
    ServerError,
    key,
)
from tests.buffer.run_by_hand import Run


def test_claim_gives_new_entries_once_in_order(run: Run) -> None:
    run.issue(5)
    first, second = run.consumer(PROMPTS, "a", claim_timeout_s=60), run.consumer(PROMPTS, "b", claim_timeout_s=60)
    of_first, of_second = first.claim(2, block_s=0), second.claim(10, block_s=0)
    assert [entry.group for entry in of_first + of_second] == [0, 1, 2, 3, 4]
    assert of_first[0].payload == b"prompt 0"
    assert {entry.deliveries for entry in of_first + of_second} == {1}
    assert first.claim(10, block_s=0) == []


def test_claim_waits_for_a_new_entry_and_no_longer(steady_run: Run) -> None:
    worker = steady_run.consumer(PROMPTS, claim_timeout_s=60)
    start = time.monotonic()
    assert worker.claim(1, block_s=0.2) == []
    assert 0.2 <= time.monotonic() - start < 10
    issuing = threading.Timer(0.1, steady_run.issue, [1])
    issuing.start()
    start = time.monotonic()
    assert [entry.group for entry in worker.claim(1, block_s=60)] == [0]
    assert time.monotonic() - start < 30
    issuing.join()


def test_of_several_workers_each_holds_a_fair_share(run: Run) -> None:
    """Worked by hand: of 10 entries and 3 workers, ceil(10 / 3) = 4."""
    run.issue(10)
    first, second, third = (run.consumer(PROMPTS, name, claim_timeout_s=60) for name in "abc")
    held = first.claim(3, block_s=0, workers=3)
    assert len(held) == 3, "no more than it asks for"
    assert [entry.group for entry in first.claim(8, block_s=0, workers=3)] == [3]
    assert first.claim(8, block_s=0, workers=3) == []
    assert [len(each.claim(8, block_s=0, workers=3)) for each in (second, third)] == [4, 2]
    assert all(first.hand_off(entry, ROLLOUTS, b"done") for entry in held)  # it holds 1, and 7 are left
    run.issue(5)
    assert [entry.group for entry in first.claim(8, block_s=0, workers=3)] == [10, 11, 12]  # ceil(12 / 3) - 1
    assert [entry.group for entry in first.claim(8, block_s=0)] == [13, 14], "alone it takes what there is"


def test_beyond_its_share_a_worker_takes_what_nobody_comes_for(run: Run) -> None:
    run.issue(4)
    worker = run.consumer(PROMPTS, "a", claim_timeout_s=60)
    run.consumer(PROMPTS, "dead", claim_timeout_s=60).claim(1, block_s=0)
    assert [entry.group for entry in worker.claim(8, block_s=0, workers=4)] == [1]
    assert worker.claim(8, block_s=0, workers=4) == [], "others may come"
    deadline = time.monotonic() + 60
    while not (late := worker.claim(8, block_s=0.1, workers=4)):
        assert time.monotonic() < deadline
    assert [entry.group for entry in late] == [2], "one at a time"
    hasty = run.consumer(PROMPTS, "a", claim_timeout_s=0.01)
    assert [entry.group for entry in hasty.claim(8, block_s=1, workers=4)] == [3]
    assert [entry.group for entry in hasty.claim(8, block_s=1, workers=4)] == [0], "and what has lapsed"


def test_a_lapsed_claim_is_claimed_by_another(run: Run) -> None:
    run.issue(2)
    dead, alive = run.consumer(PROMPTS, "dead"), run.consumer(PROMPTS, "alive")
    taken = dead.claim(2, block_s=0)
    again = alive.claim(2, block_s=5)
    assert [entry.id for entry in again] == [entry.id for entry in taken]
    assert [entry.deliveries for entry in again] == [2, 2]
    assert alive.hand_off(again[0], ROLLOUTS, b"late worker loses")
    assert not dead.hand_off(taken[0], ROLLOUTS, b"it woke up")
    assert run.groups_in(ROLLOUTS) == [0]


def test_lapsed_claims_do_not_starve_behind_new_entries(steady_run: Run) -> None:
    steady_run.issue(1)
    steady_run.consumer(PROMPTS, "dead").claim(1, block_s=0)
    alive = steady_run.consumer(PROMPTS, "alive")
    steady_run.issue(100)
    deadline = time.monotonic() + 60
    claimed: list[int] = []
    while 0 not in claimed and time.monotonic() < deadline:
        claimed += [entry.group for entry in alive.claim(1, block_s=0)]
        time.sleep(0.01)
    assert 0 in claimed
    assert len(claimed) < 100


def test_a_worker_that_leaves_gives_back_its_entries_as_if_they_had_never_been_delivered(run: Run) -> None:
    run.issue(3)
    leaving, heir = (run.consumer(streams.PROMPTS, name, claim_timeout_s=60) for name in ("leaving", "heir"))
    assert len(leaving.claim(2, block_s=0)) == 2
    leaving.leave()
    again = [*heir.claim(1, block_s=0), *heir.claim(2, block_s=0)]
    assert sorted(entry.group for entry in again) == [0, 1, 2]
    assert {entry.deliveries for entry in again} == {1}


def test_a_renewed_claim_does_not_lapse(run: Run) -> None:
    run.issue(2)
    slow, other = run.consumer(PROMPTS, "slow", claim_timeout_s=2), run.consumer(PROMPTS, "other", claim_timeout_s=2)
    kept, let_lapse = slow.claim(2, block_s=0)
    deadline = time.monotonic() + 60
    taken: list[streams.Entry] = []
    while not taken:
        assert time.monotonic() < deadline
        assert slow.renew([kept.id]) == [kept.id]
        taken += other.claim(5, block_s=0.05)
    assert [entry.id for entry in taken] == [let_lapse.id]
    assert slow.renew([kept.id, let_lapse.id, "1-1"]) == [kept.id]
    assert slow.renew([]) == []


def test_many_live_claims_do_not_hide_a_lapsed_one(steady_run: Run) -> None:
    """XAUTOCLAIM looks at 10 * count pending entries a call; the search must go on behind them."""
    steady_run.issue(60)
    live, dead = steady_run.consumer(PROMPTS, "live", claim_timeout_s=60), steady_run.consumer(PROMPTS, "dead")
    live.claim(50, block_s=0)
    lost = dead.claim(10, block_s=0)
    name = key(steady_run.run_id, PROMPTS)
    for entry in lost:
        steady_run.client.xclaim(name, ROLLOUT, "dead", 0, [entry.id], idle=120_000, justid=True)
    assert steady_run.consumer(PROMPTS, "new", claim_timeout_s=60).claim(1, block_s=0)[0].id == lost[0].id


def test_a_claim_looks_at_a_part_of_what_others_hold_and_the_next_one_goes_on_there(steady_run: Run) -> None:
    """With thousands of workers, a claim that looked at all that they hold would take the server milliseconds."""
    steady_run.issue(260)
    live, dead = steady_run.consumer(PROMPTS, "live", claim_timeout_s=60), steady_run.consumer(PROMPTS, "dead")
    live.claim(259, block_s=0)
    (lost,) = dead.claim(1, block_s=0)
    steady_run.client.xclaim(key(steady_run.run_id, PROMPTS), ROLLOUT, "dead", 0, [lost.id], idle=120_000, justid=True)
    new = steady_run.consumer(PROMPTS, "new", claim_timeout_s=60)
    found = [[entry.id for entry in new.claim(1, block_s=0)] for _ in range(3)]
    assert found == [[], [], [lost.id]]


def test_hand_off_moves_an_entry_and_leaves_nothing_behind(run: Run) -> None:
    run.issue(1)
    worker = run.consumer(PROMPTS)
    (entry,) = worker.claim(1, block_s=0)
    assert worker.hand_off(entry, ROLLOUTS, b"rollouts")
    assert run.length(PROMPTS) == 0
    (moved,) = run.consumer(ROLLOUTS).claim(1, block_s=0)
    assert (moved.group, moved.payload) == (0, b"rollouts")
    assert not worker.hand_off(entry, ROLLOUTS, b"again"), "a second hand-off is another request, and loses"
    assert run.length(ROLLOUTS) == 1


@pytest.mark.parametrize("seed", range(8))
def test_each_prompt_yields_one_scored_group_whatever_dies(run: Run, seed: int) -> None:
    """I1 with workers that die, hang and wake at random between any two of their steps."""
    rng = random.Random(seed)
    run.issue(30)
    names = itertools.count()
    held: list[tuple[Consumer, str, streams.Entry]] = []
    deadline = time.monotonic() + 60
    while run.length(EXPERIENCE) < 30:
        assert time.monotonic() < deadline, "some groups never arrived"
        stream, following = rng.choice([(PROMPTS, ROLLOUTS), (ROLLOUTS, EXPERIENCE)])
        worker = run.consumer(stream, f"worker-{next(names)}", claim_timeout_s=0.01, max_deliveries=None)
        held += [(worker, following, entry) for entry in worker.claim(rng.randrange(1, 6), block_s=0)]
        rng.shuffle(held)
        for _ in range(rng.randrange(4)):  # finish some now; hold others until their claims lapse, or to the end
            if held:
                holder, destination, entry = held.pop() if rng.random() < 0.7 else rng.choice(held)
                holder.hand_off(entry, destination, entry.payload)
    for holder, destination, entry in held:
        holder.hand_off(entry, destination, entry.payload)
    assert sorted(run.groups_in(EXPERIENCE)) == list(range(30))
    assert run.length(PROMPTS) == run.length(ROLLOUTS) == 0


def test_two_threads_that_finish_together_have_one_winner(steady_run: Run) -> None:
    steady_run.issue(40)
    worker = steady_run.consumer(PROMPTS)
    wins: list[bool] = []
    for entry in worker.claim(40, block_s=0):
        threads = [threading.Thread(target=lambda e=entry: wins.append(worker.hand_off(e, ROLLOUTS, b""))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(wins) == 40
    assert sorted(steady_run.groups_in(ROLLOUTS)) == list(range(40))


def test_a_restarted_learner_regains_its_claims_and_nobody_else_does(steady_run: Run) -> None:
    steady_run.issue(250)
    steady_run.score()
    held = steady_run.learner().claim(250, block_s=0)
    time.sleep(0.1)
    restarted = steady_run.learner()
    assert restarted.claim(10, block_s=0) == []
    regained = restarted.own_pending()
    assert [(entry.id, entry.payload) for entry in regained] == [(entry.id, entry.payload) for entry in held]
    assert {entry.deliveries for entry in regained} == {2}
    assert restarted.ack([entry.id for entry in regained[:100]]) == 100
    assert restarted.ack([]) == 0
    assert [entry.group for entry in steady_run.learner().own_pending()] == list(range(100, 250))


def test_dead_letter_keeps_the_entry_with_its_reason_and_refills_the_credit(run: Run) -> None:
    assert run.issue(3, limit=2) == 2
    worker = run.consumer(PROMPTS, claim_timeout_s=60)
    bad, good = worker.claim(2, block_s=0)
    assert worker.dead_letter(bad, "group: expected an integer")
    assert not worker.dead_letter(bad, "again")
    assert not worker.hand_off(bad, ROLLOUTS, b"")
    (letter,) = streams.dead_letters(run.client, run.run_id)
    assert letter == streams.DeadLetter(
        stream=PROMPTS, id=bad.id, group=0, reason="group: expected an integer", payload=b"prompt 0"
    )
    assert run.ledger.outstanding() == {1: 0}
    assert run.ledger.outcomes()["dead_letter"] == 1
    assert run.length(PROMPTS) == 1
    assert run.issue(3, limit=2) == 1
    assert worker.hand_off(good, ROLLOUTS, b"")


def test_an_entry_that_kills_its_workers_is_dead_lettered(run: Run) -> None:
    run.issue(1)
    for death in range(3):
        worker = run.consumer(PROMPTS, f"victim-{death}", claim_timeout_s=0.01, max_deliveries=3)
        assert [entry.deliveries for entry in worker.claim(1, block_s=2)] == [death + 1]
    time.sleep(0.02)
    assert run.consumer(PROMPTS, "survivor", claim_timeout_s=0.01, max_deliveries=3).claim(1, block_s=0) == []
    (letter,) = streams.dead_letters(run.client, run.run_id)
    assert "claimed 3 times and never finished" in letter.reason
    assert run.ledger.outstanding() == {}


@pytest.mark.parametrize("fields", [{"p": b"x"}, {"g": b"-1", "p": b"x"}, {"g": b"1", "p": b"x", "q": b""}, {"z": b""}])
def test_a_malformed_entry_is_dead_lettered(steady_run: Run, fields: dict[str, bytes]) -> None:
    steady_run.client.xadd(key(steady_run.run_id, PROMPTS), fields)  # type: ignore[arg-type]
    steady_run.issue(1)
    assert [entry.group for entry in steady_run.consumer(PROMPTS).claim(5, block_s=0)] == [0]
    (letter,) = streams.dead_letters(steady_run.client, steady_run.run_id)
    assert (letter.group, letter.payload) == (None, fields.get("p", b""))
    assert "malformed" in letter.reason


def test_the_meta_rm_skips_an_entry_without_deciding_its_outcome(run: Run) -> None:
    run.issue(1)
    run.score()
    meta_rm = run.learner(META_RM)
    (entry,) = meta_rm.claim(1, block_s=0)
    assert meta_rm.dead_letter(entry, "rewards: expected 8 values")
    assert run.ledger.outstanding() == {0: 0}
    assert run.ledger.outcomes()["skipped"] == 1
    assert [entry.group for entry in run.learner().claim(1, block_s=0)] == [0]


def test_lengths_count_what_is_not_claimed(steady_run: Run) -> None:
    steady_run.issue(6)
    steady_run.score(4)
    steady_run.consumer(PROMPTS, claim_timeout_s=60).claim(1, block_s=0)
    learner = steady_run.learner()
    entries = learner.claim(3, block_s=0)
    assert streams.lengths(steady_run.client, steady_run.run_id) == {PROMPTS: 1, ROLLOUTS: 0, EXPERIENCE: 1}
    assert streams.waiting(steady_run.client, steady_run.run_id, EXPERIENCE, META_RM) == 4
    steady_run.ledger.acknowledge(steady_run.ledger.version(), [entry.id for entry in entries])
    steady_run.learner(META_RM).claim(2, block_s=0)
    steady_run.ledger.trim()
    assert streams.lengths(steady_run.client, steady_run.run_id)[EXPERIENCE] == 1
    assert streams.waiting(steady_run.client, steady_run.run_id, EXPERIENCE, META_RM) == 2


def test_what_waits_is_counted_exactly_after_a_deletion_too(steady_run: Run) -> None:
    """Acknowledged entries that were not trimmed yet do not wait, whatever else was deleted."""
    steady_run.issue(250)
    steady_run.score()
    learner = steady_run.learner(META_RM)
    learner.ack([entry.id for entry in learner.claim(20, block_s=0)])
    name = key(steady_run.run_id, EXPERIENCE)
    unread = [entry_id for entry_id, _ in steady_run.client.xrange(name)][20:]
    steady_run.client.xdel(name, unread[3], unread[-1])
    assert streams.waiting(steady_run.client, steady_run.run_id, EXPERIENCE, META_RM) == 228


def test_runs_on_one_server_do_not_meet(steady_run: Run, address: Address) -> None:
    """I5: every key starts with the run's prefix, and removing one run leaves the other whole."""
    others = Run(steady_run.client, f"{steady_run.run_id}2")
    streams.setup(others.client, others.run_id, meta_rm=False)
    everything = {bytes(name) for name in steady_run.client.scan_iter()}
    for run in (steady_run, others):
        run.issue(3)
        run.score(2)
        worker = run.consumer(PROMPTS)
        worker.dead_letter(worker.claim(1, block_s=0)[0], "x")
        entries = run.learner().claim(2, block_s=0)
        run.ledger.advance(1, [0, 1])
        run.ledger.acknowledge(run.ledger.version(), [entry.id for entry in entries])
        run.ledger.trim()
    new = {bytes(name) for name in steady_run.client.scan_iter()} - everything
    assert new
    prefixes = tuple(f"spct:{{{run.run_id}}}:".encode() for run in (steady_run, others))
    assert all(name.startswith(prefixes) for name in new)
    assert streams.in_use(others.client, others.run_id)
    assert streams.remove(others.client, others.run_id) > 0
    assert not streams.in_use(others.client, others.run_id)
    assert steady_run.ledger.outcomes()["trained"] == 2
    assert steady_run.length(DEAD) == 1


def test_setup_twice_changes_nothing(steady_run: Run) -> None:
    steady_run.issue(2)
    streams.setup(steady_run.client, steady_run.run_id, meta_rm=True)
    assert len(steady_run.consumer(PROMPTS).claim(5, block_s=0)) == 2


def test_a_run_without_setup_is_named(steady_run: Run) -> None:
    worker = Consumer(steady_run.client, "never-set-up", PROMPTS, ROLLOUT, "a", claim_timeout_s=1)
    with pytest.raises(ServerError, match=r"never-set-up.*was setup\(\) called"):
        worker.claim(1, block_s=0)


def test_a_consumer_needs_a_positive_timeout(steady_run: Run) -> None:
    with pytest.raises(ValueError, match="claim_timeout_s 0"):
        steady_run.consumer(PROMPTS, claim_timeout_s=0)
