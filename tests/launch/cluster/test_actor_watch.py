"""Which actors the driver takes for dead, with a clock and heartbeats of the test's own."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from buffer.heartbeat import LastHeartbeat
from configs.load import load
from launch.cluster import actor_watch, calls, stage_actors
from launch.cluster.actor_watch import LOOK_S
from launch.cluster.failures import ActorLost
from launch.cluster.stage_actors import StageActors
from tests.launch.cluster.local_ray import LocalActor, LocalCluster, LocalRay, local_group, up

HEARTBEAT_S, START_S = 20.0, 60.0


class Worker:
    """A rollout actor. Its start may hang until the test lets it go on."""

    def __init__(self, *, hangs: bool) -> None:
        self.gate = threading.Event()
        if not hangs:
            self.gate.set()

    def ready(self) -> str:
        assert self.gate.wait(10)
        return "ready"


class Watched:
    """A stage of two workers, and what the Redis server says of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.read_s = 1000.0, 0.0
        self.ages: dict[str, float] = {"driver": 0.0, "rollout-0": 0.0, "rollout-1": 0.0}
        monkeypatch.setattr(calls, "ray", LocalRay)
        monkeypatch.setattr(actor_watch, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(stage_actors, "last_heartbeats", lambda client, run_id: self._last_heartbeats())
        config = load("tiny", [f"waits.heartbeat_s={HEARTBEAT_S}", "redis.claim_timeout_s=20", f"waits.start_s={START_S}"])
        self.cluster: Any = LocalCluster()
        self.actors = StageActors(self.cluster, config, model="m", note=print)
        self.actors.address = SimpleNamespace(run_id="r")  # type: ignore[assignment]
        self.actors.redis = self.actors.heartbeat = SimpleNamespace(progressed=lambda: None)  # type: ignore[assignment]
        self.made: list[LocalActor] = []
        self.workers: list[Worker] = []
        self.actors.rollout_groups = [
            up(local_group(name, self._maker(name), lambda gone: None)) for name in list(self.ages)[1:]
        ]

    def _maker(self, name: str) -> Callable[[], dict[str, LocalActor]]:
        def make() -> dict[str, LocalActor]:
            self.workers.append(Worker(hangs=len(self.made) > 1))  # those that replace the first two
            self.made.append(LocalActor(self.workers[-1]))
            return {name: self.made[-1]}

        return make

    def _last_heartbeats(self) -> dict[str, LastHeartbeat]:
        self.now, self.read_s = self.now + self.read_s, 0.0
        rest: dict[str, Any] = {"host": "", "pid": 1, "activity": "", "stuck_s": 0.0, "version": 0, "done": 0, "stacks": ""}
        return {name: LastHeartbeat(name=name, age_s=age_s, **rest) for name, age_s in self.ages.items()}

    def look(self, seconds: float = LOOK_S, **ages: float) -> list[bool]:
        """Look after so many seconds, with heartbeats of these ages. Returns which workers were ended."""
        self.now += seconds
        self.ages |= {name.replace("_", "-"): age_s for name, age_s in ages.items()}
        self.actors.watch()
        return [actor.killed for actor in self.made]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(monkeypatch)
    yield made
    for worker, actor in zip(made.workers, made.made, strict=True):
        worker.gate.set()
        actor.end()


def test_a_worker_that_is_silent_for_long_is_ended_alone(watched: Watched) -> None:
    assert watched.look(rollout_1=HEARTBEAT_S - 1) == [False, False]
    assert watched.look(rollout_1=HEARTBEAT_S + 1) == [False, True]


def test_a_server_that_came_back_empty_ends_nobody(watched: Watched) -> None:
    watched.ages.clear()
    assert watched.look() == [False, False]
    assert watched.look(driver=0.0, rollout_0=0.0, rollout_1=HEARTBEAT_S + 1) == [False, False]
    for _ in range(int(HEARTBEAT_S / LOOK_S)):
        watched.look()
    assert watched.look() == [False, True], "the one that stays silent"


@pytest.mark.parametrize("blocked", ["the read", "between two looks", "not at all"])
def test_after_an_outage_the_others_have_time_to_send_a_heartbeat_again(watched: Watched, blocked: str) -> None:
    """The driver's own comes back first."""
    late = {"rollout_0": HEARTBEAT_S + 5, "rollout_1": HEARTBEAT_S + 5}
    if blocked == "the read":
        watched.read_s = 15.0
        assert watched.look(driver=0.0, **late) == [False, False]
    elif blocked == "between two looks":
        assert watched.look(17.0, driver=0.0, **late) == [False, False]
    else:  # only the heartbeats were cut off
        assert watched.look(driver=12.0, rollout_0=12.0, rollout_1=12.0) == [False, False]
        assert watched.look(driver=0.0, **late) == [False, False]
    assert watched.look(rollout_0=0.0) == [False, False]
    for _ in range(int(HEARTBEAT_S / LOOK_S)):
        watched.look()
    assert watched.look() == [False, True], "the one that stays silent"


def test_a_replacement_that_hangs_while_it_is_made_is_ended_after_its_time_to_start(watched: Watched) -> None:
    """It has no heartbeat yet."""
    group = watched.actors.rollout_groups[1]
    group.replace()
    for _ in range(int(START_S / LOOK_S) + 1):
        watched.look()
    assert watched.look() == [False, False, True]
    with pytest.raises(ActorLost, match="the actor died"):
        calls.values(group.ready_calls)


def test_a_worker_that_waits_for_its_place_in_the_cluster_is_not_late(watched: Watched) -> None:
    """As more of them do than there are GPUs, or while an autoscaler adds a node."""
    watched.cluster.room = False
    watched.actors.rollout_groups[1].replace()
    for _ in range(2 * int(START_S / LOOK_S)):
        watched.look()
    watched.cluster.room = True
    for _ in range(int(START_S / LOOK_S) + 1):
        assert watched.look() == [False, False, False]
    assert watched.look() == [False, False, True]


def test_each_try_to_start_has_its_own_time(watched: Watched) -> None:
    group = watched.actors.rollout_groups[1]
    for _ in range(3):
        group.replace()
        for _ in range(int(START_S / LOOK_S) - 1):
            watched.look()
    assert not any(actor.killed for actor in watched.made)
