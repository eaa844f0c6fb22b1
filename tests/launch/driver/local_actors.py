"""The actors of a cold start's sampling in threads: real ones, on a real server, with an engine that writes from a script."""

from dataclasses import dataclass, field
from typing import Any

import redis

from actors.generator import Request
from buffer.streams import Address
from launch.cluster.actor_group import ActorGroup
from launch.monitoring.console import ProgressDisplay
from tests.launch.cluster.local_ray import LocalActor
from tests.launch.driver.cold_start_plans import ScriptedEngine


@dataclass(kw_only=True)
class LocalActors:
    """A fake of `SamplingActors`: real actors, in threads."""

    redis: redis.Redis
    address: Address
    reward_group: ActorGroup
    rollout_groups: list[ActorGroup]
    engines: list[ScriptedEngine]
    looks: int = 0

    @property
    def groups(self) -> list[ActorGroup]:
        return [self.reward_group, *self.rollout_groups]

    def watch(self) -> None:
        self.looks += 1

    @property
    def asked(self) -> list[Request]:
        return [request for engine in self.engines for request in engine.asked]


def ready_group(name: str, inner: Any) -> ActorGroup:
    """A worker that is ready."""
    actor = LocalActor(inner)
    made = ActorGroup(name, make=lambda: {name: actor}, start=lambda made: [], end=lambda made: end(actor, inner))
    made.begin()
    made.mark_ready()
    return made


def end(actor: LocalActor, inner: Any) -> None:
    actor.end()
    inner._heartbeat.stop()


@dataclass
class Notes(ProgressDisplay):
    """A progress display that only remembers; when so much of an activity is done as `stop_at` says, it is interrupted."""

    stop_at: int = -1
    notes: list[str] = field(default_factory=list)
    shown: list[tuple[str, int, int]] = field(default_factory=list)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def activity(self, text: str, *, done: int = 0, total: int = 0) -> None:
        self.shown.append((text, done, total))
        if done == self.stop_at:
            raise KeyboardInterrupt
