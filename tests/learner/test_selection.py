"""I2 from the learner's side: worked cases, and whole runs simulated with random arrivals."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.selection import Choice, ReadyGroup, Selector, StalenessError, select_or_drop, select_or_wait


def ready(group: int, issued_at: int, informative: bool = True) -> ReadyGroup:
    return ReadyGroup(group=group, issued_at=issued_at, trainable=informative)


def test_the_oldest_are_trained_in_the_order_of_issue_not_of_arrival() -> None:
    arrived = [ready(4, 1), ready(3, 0), ready(2, 0), ready(5, 1)]
    outstanding = {2: 0, 3: 0, 4: 1, 5: 1}
    assert select_or_wait(arrived, outstanding, 1, 2, 1) == Choice(train=(2, 3))
    assert select_or_wait(arrived[::-1], outstanding, 1, 2, 1) == Choice(train=(2, 3))


def test_a_straggler_is_waited_for_when_it_is_due_now() -> None:
    # eta 1, version 1: group 1 (u = 0) must be trained now
    arrived = [ready(0, 0), ready(2, 1), ready(3, 1)]
    assert select_or_wait(arrived, {0: 0, 1: 0, 2: 1, 3: 1}, 1, 2, 1) == Choice()
    assert select_or_wait([*arrived, ready(1, 0)], {0: 0, 1: 0, 2: 1, 3: 1}, 1, 2, 1).train == (0, 1)


def test_a_straggler_is_left_out_when_a_later_step_can_take_it() -> None:
    # eta 1, version 0: group 0 is due at version 1, which has two slots for 0 and 3
    arrived = [ready(1, 0), ready(2, 0)]
    assert select_or_wait(arrived, {0: 0, 1: 0, 2: 0, 3: 0}, 0, 2, 1).train == (1, 2)


def test_a_straggler_is_waited_for_when_the_slots_of_later_steps_are_taken() -> None:
    # eta 2, B = 1, version 1: 0 and 1 are due at 2, which has one slot; training 2 (due at 3) now would leave both
    outstanding = {0: 0, 1: 0, 2: 1}
    assert select_or_wait([ready(2, 1)], outstanding, 1, 1, 2) == Choice()
    assert select_or_wait([ready(2, 1), ready(1, 0)], outstanding, 1, 1, 2).train == (1,)


def test_uninformative_groups_are_released_at_once_when_not_due() -> None:
    arrived = [ready(0, 0, False), ready(1, 0)]
    assert select_or_wait(arrived, {0: 0, 1: 0, 2: 0, 3: 0}, 0, 2, 1) == Choice(filtered=(0,))


def test_due_uninformative_groups_are_released_together_when_all_due_are_ready() -> None:
    arrived = [ready(0, 0, False), ready(1, 0)]
    assert select_or_wait(arrived, {0: 0, 1: 0, 2: 0}, 0, 3, 0) == Choice()
    assert select_or_wait([*arrived, ready(2, 0, False)], {0: 0, 1: 0, 2: 0}, 0, 3, 0) == Choice(filtered=(0, 2))


def test_more_due_than_can_be_trained_is_an_error_with_the_numbers() -> None:
    with pytest.raises(StalenessError, match=r"3 groups are outstanding at version 0, issued at version 0: 3.*at most 2"):
        select_or_wait([], {0: 0, 1: 0, 2: 0}, 0, 2, 0)


def test_dropping_never_waits() -> None:
    arrived = [ready(0, 0), ready(1, 0, False), ready(2, 1), ready(3, 2), ready(4, 2)]
    outstanding = dict.fromkeys(range(6), 0)
    assert select_or_drop(arrived, outstanding, 2, 2, 1) == Choice(train=(2, 3), filtered=(1,), dropped=(0,))
    assert select_or_drop(arrived, outstanding, 2, 4, 1) == Choice(filtered=(1,), dropped=(0,))


@pytest.mark.parametrize("select", [select_or_wait, select_or_drop])
def test_where_all_may_be_trained_on_none_is_released_for_its_rewards(select: Selector) -> None:
    arrived = [ready(0, 0), ready(1, 0), ready(2, 0)]
    assert select(arrived, {0: 0, 1: 0, 2: 0, 3: 0}, 0, 2, 1) == Choice(train=(0, 1))


class Simulation:
    """Driver and learner, with workers that deliver groups in any order after any time."""

    def __init__(self, select: Selector, *, batch: int, bound: int, seed: int, useless: float) -> None:
        self.select, self.batch, self.bound = select, batch, bound
        self.rng, self.useless = random.Random(seed), useless
        self.slow = self.rng.choice([0.0, 0.2, 0.8])  # share of groups that take ten times as long
        self.outstanding: dict[int, int] = {}
        self.in_flight: dict[int, float] = {}  # group: when it arrives
        self.ready: list[ReadyGroup] = []
        self.informative: list[bool] = []
        self.batches: list[tuple[int, ...]] = []
        self.staleness: list[int] = []
        self.filtered: list[int] = []
        self.dropped: list[int] = []
        self.now = 0.0

    @property
    def version(self) -> int:
        return len(self.batches)

    def issue(self) -> None:
        while len(self.outstanding) < (self.bound + 1) * self.batch:
            group = len(self.informative)
            self.informative.append(self.rng.random() >= self.useless)
            self.outstanding[group] = self.version
            slow = 10 if self.rng.random() < self.slow else 1
            self.in_flight[group] = self.now + slow * self.rng.random()

    def arrive(self) -> None:
        """The next group, and sometimes others with it."""
        order = sorted(self.in_flight, key=self.in_flight.__getitem__)
        for group in order[: self.rng.choice([1, 1, 1, 2, 5])]:
            self.now = self.in_flight.pop(group)
            self.ready.append(ready(group, self.outstanding[group], self.informative[group]))
        self.rng.shuffle(self.ready)

    def choose(self) -> None:
        choice = self.select(self.ready, self.outstanding, self.version, self.batch, self.bound)
        self.filtered += choice.filtered
        self.dropped += choice.dropped
        gone = {*choice.train, *choice.filtered, *choice.dropped}
        self.staleness += [self.version - self.outstanding[group] for group in choice.train]
        self.ready = [item for item in self.ready if item.group not in gone]
        for group in gone:
            del self.outstanding[group]
        if choice.train:
            assert len(choice.train) == self.batch
            assert all(self.informative[group] for group in choice.train)
            self.batches.append(choice.train)

    def run(self, steps: int) -> None:
        """Go on until `steps` batches were trained; each event may change what the learner can do."""
        for _ in range(200 * steps * self.batch):
            self.issue()
            before = (self.version, len(self.filtered), len(self.dropped))
            self.choose()
            if self.version == steps:
                return
            if (self.version, len(self.filtered), len(self.dropped)) == before:
                assert self.in_flight, "a deadlock: everything is ready and nothing is trained or released"
                self.arrive()
        pytest.fail(f"only {self.version} of {steps} steps")

    def check_that_each_group_has_one_place(self) -> None:
        places = [group for batch in self.batches for group in batch]
        places += [*self.filtered, *self.dropped, *(item.group for item in self.ready), *self.in_flight]
        assert sorted(places) == list(range(len(self.informative)))
        assert not any(self.informative[group] for group in self.filtered)


shapes = {
    "batch": st.integers(1, 6),
    "seed": st.integers(0, 10**6),
    "useless": st.sampled_from([0.0, 0.3, 0.8]),
}


@given(bound=st.integers(0, 4), **shapes)
def test_waiting_bounds_staleness_loses_nothing_and_never_deadlocks(bound: int, batch: int, seed: int, useless: float) -> None:
    simulation = Simulation(select_or_wait, batch=batch, bound=bound, seed=seed, useless=useless)
    simulation.run(20)
    assert max(simulation.staleness) <= bound
    assert simulation.dropped == []
    simulation.check_that_each_group_has_one_place()


@given(bound=st.integers(0, 4), **shapes)
def test_dropping_bounds_staleness_and_never_deadlocks(bound: int, batch: int, seed: int, useless: float) -> None:
    simulation = Simulation(select_or_drop, batch=batch, bound=bound, seed=seed, useless=useless)
    simulation.run(20)
    assert max(simulation.staleness) <= bound
    simulation.check_that_each_group_has_one_place()


def synchronously(informative: Callable[[int], bool], batch: int, steps: int) -> list[tuple[int, ...]]:
    """The synchronous algorithm: sample a batch, replace what is uninformative until it is full, train, repeat."""
    batches, following = [], 0
    for _ in range(steps):
        kept: list[int] = []
        while len(kept) < batch:
            sampled = range(following, following + batch - len(kept))
            following = sampled.stop
            kept += [group for group in sampled if informative(group)]
        batches.append(tuple(kept))
    return batches


@given(**shapes)
def test_eta_0_is_the_synchronous_algorithm(batch: int, seed: int, useless: float) -> None:
    simulation = Simulation(select_or_wait, batch=batch, bound=0, seed=seed, useless=useless)
    simulation.run(10)
    assert simulation.batches == synchronously(simulation.informative.__getitem__, batch, 10)


def test_the_bound_is_used() -> None:
    """With slow workers some groups are as stale as allowed: the learner does not wait more than it must."""
    simulation = Simulation(select_or_wait, batch=4, bound=3, seed=0, useless=0.0)
    simulation.slow = 0.3
    simulation.run(50)
    assert max(simulation.staleness) == 3
