"""The actors of a stage, started together and ended together.

    sampling   rollout actors and the reward actor: the cold start's samples, evaluation
    training   these, the GRPO learner and the meta-RM learner

A crew has one model to start from and one namespace of streams.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from actors.engine import ENVIRONMENT as ENGINE_ENVIRONMENT
from actors.engine import EngineSettings, VllmEngine
from actors.reward import RewardActor
from actors.rollout import RolloutActor
from buffer.streams import connect, remove, setup
from configs.schema import Config
from grm.preferences import Preference
from launch.cluster import Cluster
from launch.weights import RayWeights, WeightBoard
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMLearner


class Crew:
    """Rollout actors and the reward actor. A context manager: entering starts them, leaving ends them.

    model: folder or hub name. stage: the namespace of its streams below the run's ("" is the run's own).
    """

    has_meta_rm = False

    def __init__(
        self, cluster: Cluster, config: Config, *, model: str, preferences: Iterable[Preference], stage: str = ""
    ) -> None:
        self._cluster, self._config, self._model = cluster, config, model
        self._preferences = list(preferences)
        self._actors: list[Any] = []
        self.address = cluster.address(stage)
        self.rollouts: list[Any] = []
        self.grpo: list[Any] = []
        self.meta_rm: list[Any] = []

    def __enter__(self) -> Self:
        self.redis = connect(self.address, timeout_s=self._config.waits.server_s)
        remove(self.redis, self.address.run_id)  # of an interrupted try: what counts of it is on disk
        setup(self.redis, self.address.run_id, meta_rm=self.has_meta_rm)
        board = self._remote(WeightBoard, {})
        weights = RayWeights(board, self._config.waits.start_s)
        self.reward = self._remote(
            RewardActor, {}, config=self._config, name="reward-0", address=self.address, preferences=self._preferences
        )
        self.rollouts = [self._rollout(index, weights) for index in range(self._config.rollout.workers)]
        self._start_learners(weights)
        waiting: dict[Any, str] = {self.reward.ready.remote(): "reward-0"}
        waiting |= {actor.ready.remote(): f"rollout-{i}" for i, actor in enumerate(self.rollouts)}
        for name, ranks in (("grpo", self.grpo), ("meta-rm", self.meta_rm)):
            waiting |= self._cluster.start_ranks(ranks, name) if ranks else {}
        self._cluster.await_all(waiting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error the cluster ends everything; an actor that holds on must not hide the error."""
        if kind is None:
            self._cluster.end(self._actors)
            self.redis.close()

    def _start_learners(self, weights: RayWeights) -> None:
        """A crew that samples has none."""

    def _rollout(self, index: int, weights: RayWeights) -> Any:
        config = self._config
        settings = EngineSettings(
            model_path=self._model,
            dtype=config.dtype,
            context=config.model.context,
            sequences=config.rollout.max_groups * config.rollout.samples,
            kv_cache_bytes=config.rollout.kv_cache_mb << 20,
            gpu_memory=config.rollout.gpu_memory,
            seed=config.run.seed * 1009 + index,
            device=config.cluster.device,
        )
        return self._remote(
            RolloutActor,
            ENGINE_ENVIRONMENT,
            gpu=True,
            config=config,
            name=f"rollout-{index}",
            address=self.address,
            source=weights,
            build=partial(VllmEngine, settings),
        )

    def _remote(self, cls: type, environment: dict[str, str], *, gpu: bool = False, **arguments: Any) -> Any:
        actor = self._cluster.remote(cls, environment, gpu=gpu, **arguments)
        self._actors.append(actor)
        return actor


class TrainingCrew(Crew):
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

    def _start_learners(self, weights: RayWeights) -> None:
        config = self._config
        self.grpo = [
            self._remote(GRPOLearner, {}, gpu=True, **self._rank(rank, config.learner.ranks, "policy"), sink=weights)
            for rank in range(config.learner.ranks)
        ]
        if config.meta_rm.enabled:
            self.meta_rm = [
                self._remote(
                    MetaRMLearner, {}, gpu=True, **self._rank(rank, config.meta_rm.ranks, "meta-rm"), seed=self._seed
                )
                for rank in range(config.meta_rm.ranks)
            ]

    def _rank(self, rank: int, world: int, name: str) -> dict[str, Any]:
        return {
            "config": self._config,
            "rank": rank,
            "world": world,
            "model_path": self._model,
            "address": self.address,
            "checkpoints": self._checkpoints / name,
        }
