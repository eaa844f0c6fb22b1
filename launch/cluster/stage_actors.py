"""The actors of a stage, started together, mended while it goes on, ended together.

    sampling   rollout actors and the reward actor: the cold start's samples, evaluation
    training   these, the GRPO learner and the meta-RM learner

A actors has one model to start from and one namespace of streams. Who beats no more (`buffer.heartbeat`) is taken for dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import ray

from actors.reward import RewardActor
from actors.rollout import RolloutActor
from actors.vllm_engine import ENVIRONMENT as ENGINE_ENVIRONMENT
from actors.vllm_engine import Generator, VllmEngine, VllmSettings
from buffer.heartbeat import Heartbeat, last_heartbeats, remove_heartbeat
from buffer.roles import Role
from buffer.rollout_target import next_worker, rollout_target
from buffer.streams import connect, remove, setup
from configs.schema import Config
from grm.preferences import Preference
from launch.cluster.actor_group import ActorGroup
from launch.cluster.ray_cluster import Cluster
from launch.cluster.supervision import RunFailed
from launch.cluster.weight_board import RayWeights, WeightBoard
from launch.monitoring import stacks
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMLearner

T = TypeVar("T")
LOOK_S = 2.0  # between two looks at the heartbeats


class StageActors:
    """Rollout actors and the reward actor. A context manager: entering starts them, leaving ends them.

    model: folder or hub name. stage: the namespace of its streams below the run's ("" is the run's own).
    """

    has_meta_rm = False

    def __init__(
        self, cluster: Cluster, config: Config, *, model: str, preferences: Iterable[Preference], stage: str = ""
    ) -> None:
        self._cluster, self._config, self._model, self._stage = cluster, config, model, stage
        self._preferences = list(preferences)
        self.address = cluster.address(stage)
        self.learners: list[ActorGroup] = []
        self._looked = time.monotonic()

    def __enter__(self) -> Self:
        self.redis = connect(self.address, timeout_s=self._config.waits.server_s)
        self._prepare_streams()
        shown = self._cluster.stacks("driver")
        stacks.listen(shown)
        every_s, hang_s = self._config.heartbeat_interval_s, self._config.waits.hang_s
        self.heartbeat = Heartbeat(self.address, "driver", every_s=every_s, hang_s=hang_s, stacks=str(shown))
        self._board = self._cluster.remote(WeightBoard, {}, lasting=True)
        self._weights = RayWeights(self._board, self._config.waits.start_s)
        self.reward_group = self._worker("the reward actor", self._make_reward)
        self.rollout_groups = [self.new_rollout() for _ in range(self._workers())]
        self.learners = self._make_learners()
        for group in self.groups:
            group.begin()
        self._await_ready(self.groups)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After an error the cluster ends everything; an actor that holds on must not hide the error."""
        if kind is None:
            for group in self.groups:
                group.end()
            self._cluster.end([self._board])
            self.heartbeat.stop()
            self.redis.close()

    @property
    def groups(self) -> list[ActorGroup]:
        return [self.reward_group, *self.rollout_groups, *self.learners]

    @property
    def reward(self) -> Any:
        """The reward actor."""
        return self.reward_group.actors[0]

    @property
    def rollouts(self) -> list[Any]:
        """The rollout actors that are ready, without those that are to go."""
        return [group.actors[0] for group in self.rollout_groups if group.ready and not group.leaving]

    def new_rollout(self) -> ActorGroup:
        """One more rollout worker, not begun; each time it is made it takes the next number."""
        return self._worker("a rollout actor", self._make_rollout)

    # ---- watching and mending ------------------------------------------------------------------------------------

    def watch(self) -> None:
        """End every group with a member that is silent for `waits.heartbeat_s` (killed, stopped, cut off): a caller that
        waits for its answer then gets an error instead. Checks every few seconds at most."""
        self.heartbeat.progressed()
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        found = last_heartbeats(self.redis, self.address.run_id)
        mine = found["driver"].age_s  # a server that was away made all heartbeats old, ours too
        for group in self.groups:
            for member in group.members:
                if group.ready and member in found and found[member].age_s - mine > self._config.waits.heartbeat_s:
                    self._cluster.end(group.actors)

    def answers(self, refs: Sequence[Any], *, limit_s: float, what: str) -> list[Any]:
        """What the actors answer. TimeoutError after `limit_s` says what was waited for; RayError when one died."""
        deadline = time.monotonic() + limit_s
        left = list(refs)
        while left:
            done, left = ray.wait(left, num_returns=len(left), timeout=1.0)
            ray.get(done)  # raises for one that died: the others need not be waited for
            self.watch()
            if left and time.monotonic() > deadline:
                raise TimeoutError(f"the driver waited {limit_s:.0f} s for {what}")
        return ray.get(list(refs))

    def persist(self, act: Callable[[], T]) -> T:
        """What `act` returns, which needs a rollout actor: when the only one has died, its successor is waited for. When a
        part dies under it, the actors is mended and all of it is done again."""
        deaths = 0
        while True:
            try:
                if deaths or not self.rollouts:
                    self.mend()
                return act()
            except ray.exceptions.RayActorError as error:
                deaths += 1
                if deaths > self._config.cluster.restarts:
                    what = f"a part died {deaths} times in a row under one request"
                    raise RunFailed(f"{what}; the last time: {error}") from error

    def mend(self) -> None:
        """Replace the groups that do not answer, and wait until they, and those that were being made, are ready."""
        for group in self.groups:
            try:
                ready = [actor.__ray_ready__.remote() for actor in group.actors]
                self.answers(ready, limit_s=self._config.waits.judge_s, what=f"{group.name} to answer")
            except ray.exceptions.RayError:
                group.replace()
        self._await_ready([group for group in self.groups if not group.ready])

    def _await_ready(self, groups: Sequence[ActorGroup]) -> None:
        waiting = {ref: name for group in groups for ref, name in zip(group.refs, group.members, strict=True)}
        self._cluster.await_all(waiting)
        for group in groups:
            group.ready = True

    # ---- making --------------------------------------------------------------------------------------------------

    def _prepare_streams(self) -> None:
        remove(self.redis, self.address.run_id)  # of an interrupted try: what counts of it is on disk
        setup(self.redis, self.address.run_id, meta_rm=self.has_meta_rm)

    def _workers(self) -> int:
        return self._config.rollout.workers

    def _make_learners(self) -> list[ActorGroup]:
        """A actors that samples has none."""
        return []

    def _worker(self, name: str, make: Callable[[], Mapping[str, Any]]) -> ActorGroup:
        return ActorGroup(name, make=make, start=lambda actors: [a.ready.remote() for a in actors], end=self._end)

    def _end(self, made: Mapping[str, Any]) -> None:
        self._cluster.end(made.values())
        for name in made:
            remove_heartbeat(self.redis, self.address.run_id, name)

    def _make_reward(self) -> dict[str, Any]:
        name = "reward-0"
        actor = self._remote(RewardActor, name, "reward", {}, config=self._config, name=name, preferences=self._preferences)
        return {name: actor}

    def _make_rollout(self) -> dict[str, Any]:
        config, number = self._config, next_worker(self.redis, self.address.run_id)
        name = f"rollout-{number}"
        actor = self._remote(
            RolloutActor,
            name,
            "rollout",
            ENGINE_ENVIRONMENT,
            gpu=True,
            resource=config.rollout.resource,
            config=config,
            name=name,
            source=self._weights,
            build=self._engine(number),
        )
        return {name: actor}

    def _engine(self, number: int) -> Callable[[], Generator]:
        """What builds the engine of the worker of this number, in its process."""
        config = self._config
        settings = VllmSettings(
            model_path=self._model,
            dtype=config.dtype,
            context=config.model.context,
            sequences=config.rollout.max_groups * config.rollout.samples,
            kv_cache_bytes=config.rollout.kv_cache_mb << 20,
            gpu_memory=config.rollout.gpu_memory,
            seed=config.run.seed * 1009 + number,
            device=config.cluster.device,
        )
        return partial(VllmEngine, settings)

    def _remote(
        self,
        cls: type,
        heartbeat: str,
        role: Role,
        environment: Mapping[str, str],
        *,
        gpu: bool = False,
        resource: str = "",
        **arguments: Any,
    ) -> Any:
        """An actor that reaches the streams in its role only, and whose stacks can be asked for."""
        address = self._cluster.address(self._stage, role=role)
        return self._cluster.remote(
            cls, environment, gpu=gpu, resource=resource, watched=heartbeat, address=address, **arguments
        )


class TrainingActors(StageActors):
    """All parts of online RL. seed: sampled judgements that the meta-RM learns from first (see `MetaRMLearner`)."""

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        *,
        model: str,
        preferences: Iterable[Preference],
        checkpoints: Path,
        seed: Path | None,
    ) -> None:
        super().__init__(cluster, config, model=model, preferences=preferences)
        self._checkpoints, self._seed = checkpoints, seed
        self.has_meta_rm = config.meta_rm.enabled

    def _prepare_streams(self) -> None:
        """What lies in the streams of a run is its state: a resumed run goes on with it."""
        setup(self.redis, self.address.run_id, meta_rm=self.has_meta_rm)

    def _workers(self) -> int:
        return rollout_target(self.redis, self.address.run_id) or self._config.rollout.workers

    def _make_learners(self) -> list[ActorGroup]:
        learners = [self._learner("the GRPO learner", self._make_grpo)]
        return [*learners, self._learner("the meta-RM learner", self._make_meta_rm)] if self.has_meta_rm else learners

    def _learner(self, name: str, make: Callable[[], Mapping[str, Any]]) -> ActorGroup:
        return ActorGroup(name, make=make, start=self._cluster.start_ranks, end=self._end)

    def _make_grpo(self) -> dict[str, Any]:
        world = self._config.learner.ranks
        return {
            f"grpo-{rank}": self._remote(
                GRPOLearner, f"grpo-{rank}", "learner", {}, gpu=True, sink=self._weights, **self._rank(rank, world, "policy")
            )
            for rank in range(world)
        }

    def _make_meta_rm(self) -> dict[str, Any]:
        world = self._config.meta_rm.ranks
        return {
            f"meta-rm-{rank}": self._remote(
                MetaRMLearner,
                f"meta-rm-{rank}",
                "meta-rm",
                {},
                gpu=True,
                cold_start_samples=self._seed,
                **self._rank(rank, world, "meta-rm"),
            )
            for rank in range(world)
        }

    def _rank(self, rank: int, world: int, name: str) -> dict[str, Any]:
        return {
            "config": self._config,
            "rank": rank,
            "world": world,
            "model_path": self._model,
            "checkpoints": self._checkpoints / name,
        }
