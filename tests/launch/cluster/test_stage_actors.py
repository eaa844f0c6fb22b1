"""A actors that judges while its parts die, with threads for actors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from configs.load import load
from launch.cluster import stage_actors
from launch.cluster.actor_group import ActorGroup
from launch.cluster.supervision import RunFailed
from tests.launch.cluster.local_ray import LocalActor, LocalRay, RayError


class FakeCluster:
    """In place of Ray's: waits for threads."""

    def address(self, stage: str) -> str:
        return stage

    def await_all(self, waiting: Mapping[Any, str]) -> None:
        LocalRay.get(list(waiting))


class Worker:
    """dead: answers nothing any more."""

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
    monkeypatch.setattr(stage_actors, "ray", LocalRay)
    actors: list[LocalActor] = []
    yield actors
    for actor in actors:
        actor.end()


def hired(made: list[LocalActor], *lives: bool) -> stage_actors.StageActors:
    """A actors of one rollout actor, whose lives end early (True) one after the other; the last one lasts."""
    found = stage_actors.StageActors(FakeCluster(), load("tiny", ["cluster.restarts=2"]), model="m", preferences=[])  # type: ignore[arg-type]
    ends = iter(lives)

    def group(name: str, dead: Iterator[bool]) -> ActorGroup:
        def make() -> dict[str, LocalActor]:
            made.append(LocalActor(Worker(dead=next(dead, False))))
            return {name: made[-1]}

        return ActorGroup(name, make=make, start=lambda actors: [a.ready.remote() for a in actors], end=lambda gone: None)

    found.reward_group, found.rollout_groups = group("reward-0", iter(())), [group("rollout-0", ends)]
    for one in found.groups:
        one.begin()
        one.ready = True
    found.watch = lambda: None  # type: ignore[method-assign]  # there are no heartbeats
    return found


def judged(one: stage_actors.StageActors) -> str:
    """As `judging` does: by the rollout actors that are ready, of which there must be one."""
    (actor,) = one.rollouts
    (answer,) = LocalRay.get([actor.judge.remote()])
    return str(answer)


def test_the_only_worker_is_waited_for_while_it_is_being_replaced(made: list[LocalActor]) -> None:
    one = hired(made)
    one.rollout_groups[0].begin()  # another part saw its death: it is not ready yet
    assert one.rollouts == []
    assert one.persist(lambda: judged(one)) == "judged"
    assert len(made) == 3, "it was not made once more"


def test_one_that_died_is_replaced_and_all_is_done_again(made: list[LocalActor]) -> None:
    one = hired(made, True)
    assert one.persist(lambda: judged(one)) == "judged"
    assert len(made) == 3


def test_one_that_dies_again_and_again_ends_it_with_its_last_error(made: list[LocalActor]) -> None:
    one = hired(made, True, True, True, True)
    with pytest.raises(RunFailed, match=r"a part died 3 times in a row under one request; the last time: .*the actor died"):
        one.persist(lambda: judged(one))
