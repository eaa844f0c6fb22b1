"""I3: a learner that dies at any point between step, publication, checkpoint and acknowledgement.

The list of trained groups stands for the weights. Whenever it dies, the weights that survive contain each group once, and no
group is lost: in the end each one that was issued is trained, filtered or dropped.
"""

import random
from dataclasses import dataclass

import pytest

from buffer.streams import Entry
from tests.buffer.run_by_hand import Run

BATCH, STALENESS = 3, 2
LIMIT = (STALENESS + 1) * BATCH


class Died(Exception):
    pass


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: the version, the groups behind its weights, and the ids of the entries whose gradient it contains."""

    version: int = 0
    weights: tuple[int, ...] = ()
    entries: tuple[str, ...] = ()


class Learner:
    """The protocol of the real learner, without gradients; it dies at random."""

    def __init__(self, run: Run, disk: Checkpoint, dice: random.Random, mortality: float) -> None:
        self.run, self.ledger, self.disk, self.dice, self.mortality = run, run.ledger, disk, dice, mortality
        self.consumer = run.learner()
        pending = self.consumer.own_pending()
        self.version, self.weights = disk.version, list(disk.weights)
        self.unsaved: list[str] = []
        self.ready = [entry for entry in pending if entry.id not in disk.entries]
        self.may_die()
        self.ledger.recover(disk.version, disk.entries, {entry.group: self.issued_at(entry) for entry in self.ready})
        self.may_die()

    def issued_at(self, entry: Entry) -> int:
        return int(entry.payload.split(b"@")[1])

    def may_die(self) -> None:
        if self.dice.random() < self.mortality:
            raise Died

    def step(self) -> bool:
        """One optimiser step on the oldest B groups; False when fewer are ready."""
        self.ready += self.consumer.claim(LIMIT, block_s=0)
        outstanding = self.ledger.outstanding()
        late = [entry for entry in self.ready if entry.group not in outstanding]
        self.ledger.release([], outcome="dropped", entries=[entry.id for entry in late])
        self.ready = sorted((entry for entry in self.ready if entry.group in outstanding), key=lambda entry: entry.group)
        self.filter_some()
        if len(self.ready) < BATCH:
            return False
        batch, self.ready = self.ready[:BATCH], self.ready[BATCH:]
        self.weights += [entry.group for entry in batch]
        self.unsaved += [entry.id for entry in batch]
        self.version += 1
        self.may_die()
        self.ledger.advance(self.version, [entry.group for entry in batch])
        self.may_die()
        return True

    def filter_some(self) -> None:
        for entry in [entry for entry in self.ready if entry.group % 7 == 3]:
            self.ready.remove(entry)
            self.ledger.release([entry.group], outcome="filtered", entries=[entry.id])
            self.may_die()

    def save(self) -> Checkpoint:
        """Write a checkpoint. It also lists the entries of the one before if they are not acknowledged yet."""
        entries = tuple(self.unsaved)
        self.disk = Checkpoint(version=self.version, weights=tuple(self.weights), entries=entries)
        return self.disk

    def acknowledge(self) -> None:
        """Later, since a checkpoint is written while training goes on."""
        self.may_die()
        self.ledger.acknowledge(self.disk.version, self.disk.entries)
        self.unsaved = [entry for entry in self.unsaved if entry not in self.disk.entries]
        self.may_die()
        self.ledger.trim()


def workers_progress(run: Run, dice: random.Random) -> None:
    """Let the driver and healthy workers work; sometimes a group is dropped before it is rolled out."""
    run.issue(dice.randrange(1, 5), limit=LIMIT)
    outstanding = run.ledger.outstanding()
    if dice.random() < 0.1 and outstanding:
        in_flight = set(run.groups_in("prompts"))
        run.ledger.release([g for g in outstanding if g in in_flight][:1], outcome="dropped", entries=[])
    for stream, following in (("prompts", "rollouts"), ("rollouts", "experience")):
        worker = run.consumer(stream, claim_timeout_s=60)
        for entry in worker.claim(dice.randrange(1, 6), block_s=0):
            u = b"@%d" % outstanding.get(entry.group, 0) if stream == "prompts" else b""
            worker.hand_off(entry, following, entry.payload + u)


@pytest.mark.parametrize("seed", range(12))
def test_the_surviving_weights_hold_each_group_once(run: Run, seed: int) -> None:
    dice = random.Random(seed)
    disk, deaths, learner = Checkpoint(), 0, None
    for _ in range(120):
        workers_progress(run, dice)
        try:
            if learner is None:
                learner = Learner(run, disk, dice, mortality=0.06)
            if learner.step() and dice.random() < 0.3:
                learner.acknowledge()
                disk = learner.save()
            elif dice.random() < 0.3:
                learner.acknowledge()
        except Died:
            learner, deaths = None, deaths + 1
        assert len(set(disk.weights)) == len(disk.weights), "a group was trained twice"
    assert deaths > 3
    last = Learner(run, disk, dice, mortality=0)
    for _ in range(1000):
        if not last.step() and not run.groups_in("prompts") and not run.groups_in("rollouts"):
            break
        run.score()
    outcomes = run.ledger.outcomes()
    assert len(last.weights) == len(set(last.weights)) == outcomes["trained"] == BATCH * last.version
    assert run.ledger.version() == last.version
    left = {entry.group for entry in last.ready}
    assert run.ledger.outstanding().keys() == left
    assert outcomes["issued"] == len(left) + outcomes["trained"] + outcomes["filtered"] + outcomes["dropped"]
    assert set(last.weights) | left <= set(range(outcomes["issued"]))
