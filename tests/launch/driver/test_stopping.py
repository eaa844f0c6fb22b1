"""What is saved when a run is asked to stop; the groups and their learners are fakes, whose calls are answered by the test."""

from types import SimpleNamespace
from typing import Any

import pytest

from launch.cluster.actor_group import State
from launch.cluster.failures import ActorLost
from launch.driver import stopping
from launch.driver.stopping import save

STOPPING = "stopping: checkpoints are written first (another signal, as Ctrl-C, stops at once)"


class Rank:
    """One rank of a learner."""

    def __init__(self) -> None:
        self.save = SimpleNamespace(remote=lambda: self)


class Group:
    """A supervised group with so many slices under way."""

    def __init__(self, slices: int = 0, state: State = State.READY) -> None:
        self.name, self.slices, self.group = "a group", slices, SimpleNamespace(state=state, actors=[Rank(), Rank()])

    @property
    def pending(self) -> list[Any]:
        return [object()] * self.slices


def poll(groups: list[Group]) -> list[Group]:
    """Each ends a slice."""
    for group in groups:
        group.slices -= 1
    return groups


class Actors:
    """The stage; it answers, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[Any] = []
        self._error = error

    def answers(self, refs: list[Any], *, limit_s: float, what: str) -> None:
        if self._error:
            raise self._error
        self.asked += refs


@pytest.fixture(autouse=True)
def _slices_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "poll", poll)


def saved(learners: list[Any], others: list[Any], actors: Any, *, limit_s: float = 60.0) -> tuple[bool, list[str]]:
    notes: list[str] = []
    return save(learners, others, actors=actors, limit_s=limit_s, note=notes.append), notes


def test_slices_end_and_their_reports_are_taken_before_all_ranks_save() -> None:
    learner, worker, actors = Group(slices=2), Group(slices=1), Actors()
    assert saved([learner], [worker], actors) == (True, [STOPPING])
    assert (learner.slices, worker.slices) == (0, 0)
    assert actors.asked == learner.group.actors


def test_a_learner_that_is_made_again_is_asked_for_nothing_and_what_was_lost_is_not_called_saved() -> None:
    learner, actors = Group(slices=1, state=State.MAKING), Actors()
    assert saved([learner], [], actors) == (False, [STOPPING])
    assert actors.asked == []


@pytest.mark.parametrize("error", [ActorLost("it died"), TimeoutError("the driver waited 60 s for the checkpoints")])
def test_a_checkpoint_that_is_not_written_is_said_and_hides_nothing(error: Exception) -> None:
    done, notes = saved([Group()], [], Actors(error))
    assert not done
    assert notes[1:] == [f"no checkpoint was written: {error}; what was learnt since the last one is learnt again"]


def test_a_slice_that_does_not_end_is_not_waited_for_without_end() -> None:
    done, notes = saved([Group(slices=1)], [], Actors(), limit_s=-1.0)
    assert not done
    assert "a group did not end a slice in -1 s" in notes[1]
