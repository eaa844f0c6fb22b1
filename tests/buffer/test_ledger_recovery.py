"""The ledger when a learner starts again: back to its checkpoint (I3), and its predecessor is refused."""

import pytest

from buffer.ledger import Ledger
from buffer.streams import ServerError
from tests.buffer.run_by_hand import Run, balanced


def test_recover_goes_back_to_the_checkpoint(run: Run) -> None:
    """Versions 1 to 3 are trained, the checkpoint holds version 1: 2 and 3 are taken back, with their own u."""
    run.issue(2)
    run.score()
    learner = run.learner()
    entries = learner.claim(9, block_s=0)
    run.ledger.advance(1, [0])
    run.issue(3)
    run.score()
    entries += learner.claim(9, block_s=0)
    run.ledger.advance(2, [1])
    run.ledger.advance(3, [3])
    run.ledger.release([2], outcome="filtered", entries=[entries[2].id])
    # the learner dies here; the checkpoint of version 1 lists the entry of group 0, which is not acknowledged yet
    regained = {entry.group: {0: 0, 1: 0, 3: 1, 4: 1}[entry.group] for entry in run.learner().own_pending()}
    assert regained == {0: 0, 1: 0, 3: 1, 4: 1}
    del regained[0]
    run.ledger.recover(1, [entries[0].id], regained)
    assert run.ledger.version() == 1
    assert run.ledger.outstanding() == {1: 0, 3: 1, 4: 1}
    outcomes = run.ledger.outcomes()
    assert (outcomes["trained"], outcomes["filtered"]) == (1, 1)
    assert [entry.group for entry in run.learner().own_pending()] == [1, 3, 4]
    run.ledger.advance(2, [1, 3])
    assert balanced(run.ledger)


def test_recover_from_a_checkpoint_written_before_the_version_advanced(run: Run) -> None:
    run.issue(2)
    run.score()
    entries = run.learner().claim(2, block_s=0)
    run.ledger.recover(1, [entries[0].id], {1: 0})
    assert run.ledger.version() == 1
    assert run.ledger.outstanding() == {1: 0}
    assert run.ledger.outcomes()["trained"] == 1
    assert balanced(run.ledger)


def test_recover_leaves_what_was_dropped_before_its_entry_came(run: Run) -> None:
    run.issue(2)
    run.ledger.release([0], outcome="dropped", entries=[])
    run.score()
    run.learner().claim(2, block_s=0)
    run.ledger.recover(0, [], {0: 0, 1: 0})
    assert run.ledger.outstanding() == {1: 0}
    assert run.ledger.outcomes()["dropped"] == 1
    assert balanced(run.ledger)


def test_recover_refuses_to_forget_a_trained_group(run: Run) -> None:
    run.issue(2)
    run.score()
    run.learner().claim(2, block_s=0)
    run.ledger.advance(1, [0, 1])
    with pytest.raises(ServerError, match="group 1 was trained and is neither in the checkpoint nor regained"):
        run.ledger.recover(0, [], {0: 0})
    assert run.ledger.version() == 1
    assert run.ledger.outstanding() == {}


def test_a_learner_whose_place_was_taken_is_refused(run: Run) -> None:
    """It was thought dead, hung, and wakes up: neither its step nor its checkpoint counts any more."""
    run.issue(2)
    run.score()
    entries = run.learner().claim(2, block_s=0)
    old, new = Ledger(run.client, run.run_id), Ledger(run.client, run.run_id)
    first = old.recover(0, [], {0: 0, 1: 0})
    assert new.recover(0, [], {0: 0, 1: 0}) > first
    with pytest.raises(ServerError, match="FENCED another learner has taken this one's place"):
        old.advance(1, [0])
    with pytest.raises(ServerError, match="FENCED"):
        old.acknowledge(0, [entries[0].id])
    assert (run.ledger.version(), run.ledger.outstanding()) == (0, {0: 0, 1: 0})
    with pytest.raises(ServerError, match="FENCED"):
        old.release([0], outcome="dropped", entries=[entries[0].id])
    assert len(run.learner().own_pending()) == 2
    new.advance(1, [0])


def test_a_learner_whose_place_was_taken_claims_no_more(run: Run) -> None:
    run.issue(2)
    run.score()
    old, new = run.learner(), run.learner()
    old.incarnation, _ = run.ledger.recover(0, [], {})
    new.incarnation, _ = run.ledger.recover(0, [], {})
    with pytest.raises(ServerError, match="FENCED"):
        old.claim(1, block_s=0)
    assert [entry.group for entry in new.claim(2, block_s=0)] == [0, 1]


def test_a_lost_checkpoint_costs_its_gradient_and_leaves_the_version(run: Run) -> None:
    """Version 2 was saved and acknowledged, prompts were issued at it; then its checkpoint broke: only version 1's is left."""
    learner = run.learner()
    for version in (1, 2):
        run.issue(1)
        run.score()
        (entry,) = learner.claim(9, block_s=0)
        run.ledger.advance(version, [entry.group])
        run.ledger.acknowledge(version, [entry.id])
    run.issue(1)
    run.score()
    (late,) = learner.claim(9, block_s=0)
    run.issue(1)
    run.ledger.advance(3, [late.group])
    _, at = run.ledger.recover(1, [], {late.group: 2})
    assert at == run.ledger.version() == 2, "not 1: nobody could sample what was issued at 2"
    assert run.ledger.outstanding() == {2: 2, 3: 2}
    run.ledger.advance(3, [late.group])
    assert balanced(run.ledger)
