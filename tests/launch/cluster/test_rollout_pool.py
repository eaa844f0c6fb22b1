"""The rollout workers follow the target: on a real server, with threads for actors."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from actors.rollout_report import RolloutReport
from buffer.rollout_target import rollout_target, set_rollout_target
from buffer.streams import Address
from configs.load import load
from launch.cluster import calls, rollout_pool
from launch.cluster.actor_group import State
from launch.cluster.rollout_pool import RolloutPool
from launch.cluster.stage_actors import StageActors
from launch.cluster.supervision import PLACE_S, poll
from tests.launch.cluster.local_ray import LocalActor, LocalCluster, LocalRay, RayError, local_group, up

REPORT: dict[str, Any] = {
    "version": 0,
    "groups": 1,
    "lost": 0,
    "completions": 1,
    "tokens": 1,
    "in_flight": 0,
    "pulls": 0,
    "seconds": 0.01,
    "idle_s": 0.0,
    "pull_s": 0.0,
    "pause_s": 0.0,
    "latencies_s": (),
}


class Worker:
    """Works in short slices; gives two groups back when it drains."""

    def __init__(self, name: str) -> None:
        self.name, self.dies = name, False

    def ready(self) -> str:
        return self.name

    def work(self, seconds: float) -> RolloutReport:
        time.sleep(0.01)
        if self.dies:
            raise RayError("the actor died")
        return RolloutReport(worker=self.name, given_back=0, **REPORT)

    def drain(self, seconds: float) -> RolloutReport:
        if self.dies:
            raise RayError("the actor died")
        return RolloutReport(worker=self.name, given_back=2, **REPORT)


class Pool:
    """A pool and its workers, driven as the training loop does."""

    def __init__(self, client: redis.Redis, address: Address, *overrides: str) -> None:
        config = load("tiny", ["rollout.workers=2", *overrides])
        self.workers: list[Worker] = []
        self.made: list[LocalActor] = []
        self.notes: list[str] = []
        self.cluster = LocalCluster()
        self.actors = StageActors(self.cluster, config, model="m", note=print)  # type: ignore[arg-type]
        self.actors.redis, self.actors.address = client, address
        self.actors.new_rollout = self._new  # type: ignore[method-assign]
        self.actors.rollout_groups = [up(self._new()) for _ in range(2)]
        self.pool = RolloutPool(self.actors, config, on_report=lambda report: None, note=self.notes.append)
        for worker in self.pool.workers:
            worker.work()

    def _new(self) -> Any:
        return local_group("a rollout actor", self._make, lambda gone: None)

    def _make(self) -> dict[str, LocalActor]:
        self.workers.append(Worker(f"rollout-{len(self.workers)}"))
        self.made.append(LocalActor(self.workers[-1]))
        return {self.workers[-1].name: self.made[-1]}

    @property
    def names(self) -> list[str]:
        """The workers that are ready."""
        ready = [group for group in self.actors.rollout_groups if group.state is State.READY]
        return [name for group in ready for name in group.members]

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline, (self.names, self.notes)
            self.pool.reconcile()
            for worker in poll(self.pool.workers):
                self.pool.go_on(worker)


@pytest.fixture
def pool(client: redis.Redis, address: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pool]]:
    monkeypatch.setattr(calls, "ray", LocalRay)
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    made: list[Pool] = []

    def of(*overrides: str) -> Pool:
        made.append(Pool(client, address, *overrides))
        return made[-1]

    yield of
    for actor in [actor for driven in made for actor in driven.made]:
        actor.end()


def test_it_grows_to_the_target(pool: Callable[..., Pool]) -> None:
    driven = pool()
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 4)
    driven.until(lambda: len(driven.notes) == 2)
    assert driven.names == ["rollout-0", "rollout-1", "rollout-2", "rollout-3"]
    assert driven.notes == ["rollout workers: target 4, running 2", "rollout workers: 4 at work, as asked for"]
    driven.pool.reconcile()
    assert len(driven.notes) == 2, "it is said once"


def test_the_newest_drain_and_leave(pool: Callable[..., Pool]) -> None:
    driven = pool()
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 1)
    driven.until(lambda: len(driven.notes) == 3)
    assert driven.names == ["rollout-0"]
    assert driven.notes == [
        "rollout workers: target 1, running 2",
        "rollout-1 left and gave 2 groups back",
        "rollout workers: 1 at work, as asked for",
    ]
    assert driven.pool.replaced == 0


def test_one_that_is_still_being_made_is_ended_at_once(pool: Callable[..., Pool]) -> None:
    driven = pool()
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 3)
    driven.pool.reconcile()
    assert [worker.group.state for worker in driven.pool.workers] == [State.READY, State.READY, State.MAKING]
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 2)
    driven.pool.reconcile()
    assert [worker.group.state for worker in driven.pool.workers] == [State.READY, State.READY]


def test_one_that_dies_is_replaced_and_one_that_dies_while_it_drains_is_not(pool: Callable[..., Pool]) -> None:
    driven = pool()
    driven.workers[1].dies = True
    driven.until(lambda: driven.names == ["rollout-0", "rollout-2"])
    assert driven.pool.replaced == 1
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 1)
    driven.workers[2].drain = driven.workers[1].drain  # type: ignore[method-assign]
    driven.until(lambda: len(driven.pool.workers) == 1)
    assert (driven.names, len(driven.workers)) == (["rollout-0"], 3)
    assert driven.pool.replaced == 1, "also of those that have left"
    assert any("a rollout actor died while it drained" in note for note in driven.notes)


def test_autoscaling_moves_the_target_and_notes_why(pool: Callable[..., Pool]) -> None:
    driven = pool("rollout.autoscale_min=1", "rollout.autoscale_max=3")
    for _ in range(3):
        driven.pool.autoscale(0.7, 0.1)
    assert rollout_target(driven.actors.redis, driven.actors.address.run_id) == 3
    assert driven.notes == ["autoscaling: target 3 rollout workers instead of 2 (idle: learner 70%, rollout 10%; bounds 1..3)"]


def test_a_target_outside_the_autoscalers_bounds_is_never_moved_silently(pool: Callable[..., Pool]) -> None:
    """scale.py refuses it; whoever sets it in another way reads why it does not hold."""
    driven = pool("rollout.autoscale_min=1", "rollout.autoscale_max=3")
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 5)
    driven.until(lambda: len(driven.names) == 5)
    driven.pool.autoscale(0.3, 0.3)
    assert rollout_target(driven.actors.redis, driven.actors.address.run_id) == 3
    assert "autoscaling: target 3 rollout workers instead of 5" in driven.notes[-1]
    assert "bounds 1..3" in driven.notes[-1]


UNPLACED = (
    "rollout workers: no place in the cluster for {}: each asks for 1 GPU; the cluster has 4 GPU, 0 of them free"
    " (launch/scale.py --rollouts 2 takes them back)"
)


def test_workers_that_find_no_place_are_named_with_what_is_missing_and_can_be_taken_back(
    pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    driven, now = pool("waits.start_s=300"), [1000.0]
    monkeypatch.setattr(rollout_pool, "time", SimpleNamespace(monotonic=lambda: now[0]))
    driven.pool._placed_at = now[0]
    gate = threading.Event()
    monkeypatch.setattr(Worker, "ready", lambda worker: gate.wait(10))
    driven.cluster.room = False
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 4)
    driven.pool.reconcile()
    assert driven.notes == ["rollout workers: target 4, running 2"]
    for seconds in (PLACE_S + 1, 1, 299, 2):
        now[0] += seconds
        driven.pool.reconcile()
    assert driven.notes[1:] == [UNPLACED.format("rollout-2, rollout-3")] * 2, "soon, and then every waits.start_s"
    for _ in range(9):  # the learner waits for experience
        driven.pool.autoscale(0.9, 0.0)
    assert rollout_target(driven.actors.redis, driven.actors.address.run_id) == 4
    set_rollout_target(driven.actors.redis, driven.actors.address.run_id, 2)
    driven.pool.reconcile()
    assert [worker.group.state for worker in driven.pool.workers] == [State.READY, State.READY]
    gate.set()


def test_no_more_workers_are_asked_for_while_some_have_no_place(pool: Callable[..., Pool]) -> None:
    driven = pool("rollout.autoscale_min=1", "rollout.autoscale_max=9")
    driven.workers[1].dies, driven.cluster.room = True, False
    driven.pool.workers[1].group.replace()
    for _ in range(3):
        driven.pool.autoscale(0.9, 0.0)
    assert rollout_target(driven.actors.redis, driven.actors.address.run_id) is None
