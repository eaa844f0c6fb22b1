"""A stage whose actors die under a request, with threads for actors."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from configs.load import load
from launch.cluster import calls, supervision
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.failures import RunFailed
from launch.cluster.stage_actors import StageActors
from tests.launch.cluster.local_ray import LocalActor, LocalCluster, LocalRay, RayError, local_group, up


class Worker:
    """A rollout actor; a dead one answers nothing."""

    def __init__(self, *, dead: bool = False) -> None:
        self.dead = dead

    def __ray_ready__(self) -> None:
        if self.dead:
            raise RayError("the actor died")

    def ready(self) -> str:
        return "ready"

    def judge(self) -> str:
        self.__ray_ready__()
        return "judged"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LocalActor]]:
    monkeypatch.setattr(calls, "ray", LocalRay)
    actors: list[LocalActor] = []
    yield actors
    for actor in actors:
        actor.end()


def stage(made: list[LocalActor], *lives: bool) -> StageActors:
    """A stage of one rollout actor, whose lives end early (True) one after the other; the last one lasts."""
    actors = StageActors(LocalCluster(), load("tiny", ["cluster.restarts=2"]), model="m", note=print)  # type: ignore[arg-type]
    ends = iter(lives)

    def group(name: str) -> ActorGroup:
        def make() -> dict[str, LocalActor]:
            made.append(LocalActor(Worker(dead=next(ends, False))))
            return {name: made[-1]}

        return up(local_group(name, make, lambda gone: None))

    actors.rollout_groups = [group("rollout-0")]
    actors.watch = lambda: None  # type: ignore[method-assign]  # there are no heartbeats
    return actors


def judged(actors: StageActors) -> Any:
    (group,) = actors.rollout_groups
    return actors.answers([group.actors[0].judge.remote()], limit_s=60, what="a judgement")


def test_an_actor_that_died_is_replaced_and_the_request_is_repeated(made: list[LocalActor]) -> None:
    actors = stage(made, True)
    assert actors.retry_on_death(lambda: judged(actors), actors.rollout_groups[0]) == ["judged"]
    assert len(made) == 2
    assert actors.rollout_groups[0].state is State.READY


def test_deaths_without_end_end_the_request_with_the_last_error(made: list[LocalActor]) -> None:
    actors = stage(made, *[True] * 9)
    with pytest.raises(RunFailed, match=r"rollout-0 failed 3 times in a row .*; the last time: the actor died"):
        actors.retry_on_death(lambda: judged(actors), actors.rollout_groups[0])


def test_mending_waits_for_a_group_that_is_being_made(made: list[LocalActor]) -> None:
    actors = stage(made)
    actors.rollout_groups[0].replace()
    assert actors.rollouts == [], "it cannot be given work yet"
    actors.replace_dead()
    assert len(actors.rollouts) == 1
    assert len(made) == 2, "it was not made once more"


def test_mending_gives_a_group_that_is_being_made_its_time_to_start(
    made: list[LocalActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    monkeypatch.setattr(Worker, "__ray_ready__", lambda worker: gate.wait(10))
    actors = stage(made)
    actors._config = load("tiny", ["waits.start_s=0.1", "waits.judge_s=3"])
    actors.rollout_groups[0].replace()
    with pytest.raises(TimeoutError, match=r"rollout-0 to answer \(waits.start_s\)"):
        actors.replace_dead()
    gate.set()


def test_mending_leaves_a_group_alone_that_drains(made: list[LocalActor]) -> None:
    actors = stage(made, True)
    actors.rollout_groups[0].drain()
    actors.replace_dead()
    assert len(made) == 1
    assert actors.rollout_groups[0].state is State.DRAINING


def test_an_answer_that_does_not_come_is_a_timeout_that_names_what_was_waited_for(
    made: list[LocalActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    actors = stage(made)
    never: Future[None] = Future()
    with pytest.raises(TimeoutError, match="the driver waited 0 s for a judgement"):
        actors.answers([never], limit_s=0.1, what="a judgement")


@pytest.mark.parametrize(("wanted", "fitting", "begins"), [(2, 9, 2), (8, 3, 3), (8, 0, 1)])
def test_a_stage_begins_with_as_many_workers_as_have_a_place_and_says_so(
    wanted: int, fitting: int, begins: int, made: list[LocalActor]
) -> None:
    """The target was set, or the run begun, when the cluster was larger."""
    actors, notes = stage(made), list[str]()
    actors._cluster.fitting, actors.placement._note = fitting, notes.append  # type: ignore[attr-defined]
    assert actors.placement.placeable(wanted) == begins
    short = f"rollout workers: {wanted} should run, {begins} have a place: each asks for 1 GPU; the cluster has 4 GPU, 0 of"
    assert [note.startswith(short) for note in notes] == [True] * (begins < wanted)


def test_who_never_gets_a_place_ends_the_start_with_what_is_missing(
    made: list[LocalActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    actors = stage(made)
    monkeypatch.setattr(Worker, "ready", lambda worker: gate.wait(10))
    actors._config = load("tiny", ["waits.start_s=0.1"])
    actors._cluster.room = False  # type: ignore[attr-defined]
    actors.rollout_groups[0].replace()
    missing = (
        r"0 s for rollout-0 to start \(waits.start_s\); no place in the cluster for rollout-0: each asks for 1 GPU; the cl"
    )
    with pytest.raises(TimeoutError, match=missing):
        actors._await_ready(actors.groups)
    gate.set()


def test_mending_leaves_a_worker_alone_that_waits_for_its_place(made: list[LocalActor]) -> None:
    actors = stage(made)
    actors._cluster.room = False  # type: ignore[attr-defined]
    actors.rollout_groups[0].replace()
    actors.replace_dead()
    assert actors.rollout_groups[0].state is State.MAKING
    assert len(made) == 2


def test_a_stage_begins_without_workers_that_wait_for_a_place_which_somebody_else_has(
    made: list[LocalActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, notes = threading.Event(), list[str]()
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    monkeypatch.setattr(supervision, "PLACE_S", 0.1)
    actors = stage(made)
    actors._note = notes.append
    monkeypatch.setattr(Worker, "ready", lambda worker: gate.wait(10))
    actors.rollout_groups.append(local_group("a rollout actor", lambda: {"rollout-1": LocalActor(Worker())}, lambda gone: None))
    actors.rollout_groups[1].begin()
    actors._cluster.room = False  # type: ignore[attr-defined]
    actors._await_ready(actors.groups)
    assert [group.state for group in actors.rollout_groups] == [State.READY, State.MAKING]
    assert notes[0].startswith("the stage begins with 1 rollout workers; no place in the cluster for rollout-1: each asks for")
    gate.set()
