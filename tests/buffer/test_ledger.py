"""Contract of the ledger on a real server: credit (I2), training once (I3), trimming (I4), the cursor (I7)."""

import threading

import pytest

from buffer import streams
from buffer.ledger import Cursor, Offer
from buffer.streams import EXPERIENCE, META_RM, PROMPTS, ServerError, key, setup, waiting
from tests.buffer.run_by_hand import Run, balanced, offers


def test_a_new_run_starts_from_nothing(run: Run) -> None:
    assert run.ledger.version() == 0
    assert run.ledger.cursor() == Cursor()
    assert run.ledger.outstanding() == {}
    assert set(run.ledger.outcomes().values()) == {0}
    assert run.ledger.trim() == 0


def test_groups_are_issued_while_there_is_credit(run: Run) -> None:
    """I2: with B = 2 and eta = 1, (eta + 1) * B = 4 are outstanding at most."""
    assert run.issue(3, limit=4) == 3
    assert run.issue(3, limit=4) == 1
    assert run.issue(3, limit=4) == 0
    assert run.ledger.outstanding() == {0: 0, 1: 0, 2: 0, 3: 0}
    assert run.groups_in(PROMPTS) == [0, 1, 2, 3]
    run.ledger.advance(1, [0, 2])
    assert run.issue(3, limit=4) == 2
    assert run.ledger.outstanding() == {1: 0, 3: 0, 4: 1, 5: 1}
    assert run.issue(1, limit=3) == 0, "a smaller limit takes nothing back"
    assert balanced(run.ledger)


def test_nothing_is_issued_at_another_version_than_the_learners(run: Run) -> None:
    """I2: a group with an older u than the learner counts on would have a deadline that it cannot meet."""
    run.issue(1)
    run.ledger.advance(1, [0])
    assert run.ledger.issue(offers(1, 2), version=0, limit=4) == 0
    assert run.ledger.issue(offers(1, 2), version=2, limit=4) == 0
    assert run.groups_in(PROMPTS) == [0]
    assert run.ledger.cursor().group == 1
    assert run.ledger.issue(offers(1, 2), version=1, limit=4) == 2


def test_the_cursor_moves_with_the_prompts_that_were_issued(run: Run) -> None:
    """I7: after any offer the cursor is the one behind the last prompt in the stream."""
    run.issue(5, limit=3)
    assert run.ledger.cursor() == offers(2, 1)[0].after == Cursor(group=3, epoch=0, index=2)
    run.issue(20, limit=13)
    assert run.ledger.cursor() == Cursor(group=13, epoch=1, index=5)
    assert run.groups_in(PROMPTS) == list(range(13))
    skipping = Offer(group=13, payload=b"", after=Cursor(group=14, epoch=2, index=4, skipped=6))
    assert run.ledger.issue([skipping], version=0, limit=14) == 1
    assert run.ledger.cursor().skipped == 6


@pytest.mark.parametrize("first", [0, 1, 4])
def test_a_driver_that_does_not_continue_from_the_cursor_is_refused(run: Run, first: int) -> None:
    run.issue(3)
    with pytest.raises(ServerError, match=r"the next group is 3, not \d.*cursor\(\)"):
        run.ledger.issue(offers(first, 2), version=0, limit=9)
    assert run.groups_in(PROMPTS) == [0, 1, 2]
    assert run.ledger.outcomes()["issued"] == 3


def test_two_drivers_at_once_issue_each_group_once(steady_run: Run) -> None:
    def drive() -> None:
        for _ in range(30):
            try:
                steady_run.issue(2, limit=40)
            except ServerError as error:
                refused.append(str(error))

    refused: list[str] = []
    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steady_run.groups_in(PROMPTS) == list(range(40))
    assert all("another driver" in error for error in refused)


def test_bad_offers_are_refused(steady_run: Run) -> None:
    with pytest.raises(ValueError, match="consecutive"):
        steady_run.ledger.issue([*offers(0, 1), *offers(2, 1)], version=0, limit=4)
    with pytest.raises(ValueError, match="limit 0"):
        steady_run.ledger.issue(offers(0, 1), version=0, limit=0)
    with pytest.raises(ValueError, match="names 3 as the next group"):
        Offer(group=0, payload=b"", after=Cursor(group=3))
    assert steady_run.ledger.issue([], version=0, limit=1) == 0


def test_large_numbers_survive_the_script(steady_run: Run) -> None:
    big = 2**52
    steady_run.client.hset(key(steady_run.run_id, "cursor"), "group", big)
    steady_run.client.set(key(steady_run.run_id, "version"), big)
    assert steady_run.issue(2) == 2
    assert steady_run.ledger.outstanding() == {big: big, big + 1: big}
    assert steady_run.ledger.cursor().group == big + 2


def test_the_version_advances_by_one(run: Run) -> None:
    run.issue(4)
    run.ledger.advance(1, [1])
    assert run.ledger.version() == 1
    for wrong in (0, 3):
        with pytest.raises(ServerError, match=f"the version is 1, so the next is not {wrong}"):
            run.ledger.advance(wrong, [2])
    assert run.ledger.outstanding() == {0: 0, 2: 0, 3: 0}
    assert run.ledger.outcomes()["trained"] == 1
    assert balanced(run.ledger)


def test_a_group_is_not_trained_twice(run: Run) -> None:
    """I3: a group that is not outstanding is not trained, and nothing of that step is booked."""
    run.issue(3)
    run.ledger.advance(1, [0])
    for groups in ([1, 0], [7]):
        with pytest.raises(ServerError, match=f"group {groups[-1]} is not outstanding"):
            run.ledger.advance(2, groups)
    assert run.ledger.version() == 1
    assert run.ledger.outstanding() == {1: 0, 2: 0}
    assert run.ledger.outcomes()["trained"] == 1


def test_release_settles_groups_and_their_entries(run: Run) -> None:
    run.issue(4)
    run.score(2)
    learner = run.learner()
    first, second = learner.claim(2, block_s=0)
    run.ledger.release([first.group], outcome="filtered", entries=[first.id])
    run.ledger.release([second.group, 3], outcome="dropped", entries=[])
    assert run.ledger.outstanding() == {2: 0}
    outcomes = run.ledger.outcomes()
    assert (outcomes["filtered"], outcomes["dropped"]) == (1, 2)
    assert [entry.id for entry in learner.own_pending()] == [second.id]
    run.ledger.release([], outcome="dropped", entries=[second.id])
    assert learner.own_pending() == []
    run.ledger.release([2, 3], outcome="dropped", entries=[])
    assert run.ledger.outcomes()["dropped"] == 3, "3 was settled before"
    assert balanced(run.ledger)


def test_a_trained_entry_is_pending_until_the_checkpoint(run: Run) -> None:
    """I3: a learner that dies between step and checkpoint finds its entries again."""
    run.issue(2)
    run.score()
    learner = run.learner()
    entries = learner.claim(2, block_s=0)
    run.ledger.advance(1, [0, 1])
    assert [entry.group for entry in run.learner().own_pending()] == [0, 1]
    run.ledger.acknowledge(run.ledger.version(), [entries[0].id])
    assert [entry.group for entry in run.learner().own_pending()] == [1]


def test_reopen_issues_the_prompts_of_an_open_round_again_and_deletes_what_came_of_them(run: Run) -> None:
    run.issue(2)
    run.score()  # an earlier round, finished
    run.issue(3)
    run.score(1)  # of the open one, group 2 is scored, group 3 rolled out, group 4 waits
    worker = run.consumer(streams.PROMPTS, claim_timeout_s=60)
    (entry,) = worker.claim(1, block_s=0)
    assert worker.hand_off(entry, streams.ROLLOUTS, b"rolled out")
    run.learner().claim(9, block_s=0)
    assert run.ledger.finished() == {0, 1, 2}
    assert run.ledger.round_start().group == 2
    prompts = {group: b"again %d" % group for group in (2, 3, 4)}
    run.ledger.reopen(prompts)
    assert run.groups_in(streams.PROMPTS) == [2, 3, 4]
    assert run.groups_in(streams.ROLLOUTS) == []
    assert run.groups_in(streams.EXPERIENCE) == [0, 1]
    assert [entry.group for entry in run.learner().own_pending()] == [0, 1]
    assert run.ledger.outstanding() == dict.fromkeys(range(5), 0)
    fresh = run.consumer(streams.PROMPTS, "b", claim_timeout_s=60).claim(9, block_s=0)
    assert [(entry.group, entry.payload) for entry in fresh] == list(prompts.items())
    with pytest.raises(ServerError, match="REOPEN group 9 is not outstanding"):
        run.ledger.reopen({9: b"never issued"})
    assert balanced(run.ledger)


def test_experience_is_kept_until_both_readers_have_acknowledged_it(run: Run) -> None:
    """I4, worked by hand on five entries; the numbers in the stream after each step."""
    run.issue(5)
    run.score()
    grpo, meta_rm = run.learner(), run.learner(META_RM)
    trained, read = grpo.claim(4, block_s=0), meta_rm.claim(3, block_s=0)

    def left() -> list[int]:
        run.ledger.trim()
        return run.groups_in(EXPERIENCE)

    assert left() == [0, 1, 2, 3, 4]
    run.ledger.acknowledge(run.ledger.version(), [trained[0].id, trained[1].id, trained[3].id])
    assert left() == [0, 1, 2, 3, 4], "the meta-RM has acknowledged none"
    meta_rm.ack([read[1].id, read[2].id])
    assert left() == [0, 1, 2, 3, 4], "its oldest is pending"
    meta_rm.ack([read[0].id])
    assert left() == [2, 3, 4], "the GRPO learner holds 2"
    run.ledger.acknowledge(run.ledger.version(), [trained[2].id])
    assert left() == [3, 4], "the meta-RM has not read 3"
    meta_rm.ack([entry.id for entry in meta_rm.claim(2, block_s=0)])
    assert left() == [4], "nobody has trained 4"
    run.ledger.acknowledge(run.ledger.version(), [entry.id for entry in grpo.claim(1, block_s=0)])
    assert left() == []


def test_without_a_meta_rm_only_the_learner_counts(steady_run: Run) -> None:
    alone = Run(steady_run.client, f"{steady_run.run_id}-alone")
    setup(alone.client, alone.run_id, meta_rm=False)
    alone.issue(2)
    alone.score()
    alone.ledger.acknowledge(alone.ledger.version(), [entry.id for entry in alone.learner().claim(1, block_s=0)])
    assert alone.ledger.trim() == 1
    assert alone.groups_in(EXPERIENCE) == [1]


def test_a_reader_that_fell_behind_skips_its_oldest_and_counts_them(run: Run) -> None:
    """I4: 40 unread entries and a backlog of 10 leave the newest 10; what it has claimed stays its own."""
    run.issue(42)
    run.score()
    meta_rm = run.learner(META_RM)
    held = meta_rm.claim(2, block_s=0)
    run.ledger.skip_backlog(META_RM, 10)
    assert run.ledger.outcomes()["skipped"] == 30
    assert waiting(run.client, run.run_id, EXPERIENCE, META_RM) == 10
    assert run.ledger.skip_backlog(META_RM, 10) == 0
    rest = meta_rm.claim(100, block_s=0)
    assert [entry.group for entry in rest] == list(range(32, 42))
    assert run.learner().claim(100, block_s=0)[0].group == 0, "the other reader is not touched"
    meta_rm.ack([entry.id for entry in held + rest])
    assert run.ledger.trim() == 0


def test_skip_backlog_returns_how_many(steady_run: Run) -> None:
    steady_run.issue(5)
    steady_run.score()
    assert steady_run.ledger.skip_backlog(META_RM, 5) == 0
    assert steady_run.ledger.skip_backlog(META_RM, 2) == 3
