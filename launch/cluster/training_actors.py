"""The stages that sample and train: rollout actors and what reads their streams.

prompts ─▶ rollout actors ─▶ rollouts ─▶ the reward actor ─▶ experience ─┬─▶ the GRPO learner    (`grpo`)
                                                                         └─▶ the meta-RM learner (`meta_rm`)
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from actors.reward import RewardActor
from buffer.rollout_target import rollout_target
from buffer.streams import setup
from configs.schema import Config
from grm.preferences import Preference
from launch.cluster.actor_group import ActorGroup
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors
from launch.monitoring.console import ShowActivity, show_nothing
from launch.setup.gpu_blocks import ENGINE, META_RM, POLICY
from launch.setup.tokenizer import Tokenizer
from learner.adapters import planned_shape
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMLearner


class SamplingActors(StageActors):
    """Rollout actors and the reward actor: what the cold start samples with. `reward` exists inside the block only."""

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        *,
        model: str,
        tokenizer: Tokenizer | None = None,
        preferences: Iterable[Preference],
        stage: str = "",
        note: Callable[[str], None],
        show: ShowActivity = show_nothing,
    ) -> None:
        """As `StageActors`.

        Args:
            preferences: Those whose labels the reward actor joins.
        """
        super().__init__(cluster, config, model=model, tokenizer=tokenizer, stage=stage, note=note, show=show)
        self._preferences = list(preferences)

    @property
    def groups(self) -> list[ActorGroup]:
        """All groups of the stage."""
        return [self.reward, *self.rollout_groups]

    def _make_others(self) -> None:
        self.reward = self._worker("the reward actor", self._make_reward)

    def _make_reward(self) -> dict[str, Any]:
        name = "reward-0"
        actor = self._remote(RewardActor, name, "reward", config=self._config, name=name, preferences=self._preferences)
        return {name: actor}


class TrainingActors(SamplingActors):
    """All actors of online RL. `grpo` and `meta_rm` exist inside the block only; `meta_rm` is None without a meta-RM."""

    engine_part = ENGINE  # a learner that is being replaced must find its GPUs again
    grpo: ActorGroup
    meta_rm: ActorGroup | None

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        *,
        model: str,
        tokenizer: Tokenizer | None = None,
        preferences: Iterable[Preference],
        checkpoints: Path,
        cold_start_samples: Path | None,
        beside: Mapping[str, Mapping[str, str]],
        note: Callable[[str], None],
        show: ShowActivity = show_nothing,
    ) -> None:
        """As `SamplingActors`.

        Args:
            checkpoints: Folder of both learners' checkpoints.
            cold_start_samples: Judgements that the meta-RM is trained on first (see `MetaRMLearner`).
            beside: The files that lie beside the weights of the `policy` and of the `meta-rm` (see `GRPOLearner`).
        """
        super().__init__(cluster, config, model=model, tokenizer=tokenizer, preferences=preferences, note=note, show=show)
        self._checkpoints, self._samples, self._beside = checkpoints, cold_start_samples, beside
        self.has_meta_rm = config.meta_rm.enabled
        self.adapters = planned_shape(model, config.learner.lora_rank)

    @property
    def groups(self) -> list[ActorGroup]:
        """All groups of the stage."""
        return [*super().groups, *self.learners]

    @property
    def learners(self) -> list[ActorGroup]:
        """The learners that there are."""
        return [self.grpo] if self.meta_rm is None else [self.grpo, self.meta_rm]

    def _prepare_streams(self) -> None:
        """What lies in the streams of a run is its state: a resumed run goes on with it."""
        setup(self.redis, self.address.run_id, meta_rm=self.has_meta_rm)

    def _leave_streams(self) -> None:
        """They stay: a run can be resumed as long as they are there."""

    def _workers(self) -> int:
        return rollout_target(self.redis, self.address.run_id) or self._config.rollout.workers

    def _announce_workers(self, workers: int) -> None:
        """The target is a person's, or the autoscaler's: what is missing of it is tried again."""

    def _make_others(self) -> None:
        super()._make_others()
        self.grpo = self._learner("the GRPO learner", self._make_grpo)
        self.meta_rm = self._learner("the meta-RM learner", self._make_meta_rm) if self.has_meta_rm else None

    def _learner(self, name: str, make: Callable[[], Mapping[str, Any]]) -> ActorGroup:
        return ActorGroup(name, make=make, start=self._cluster.start_ranks, end=self._end)

    def _make_grpo(self) -> dict[str, Any]:
        world, sink = self._config.learner.ranks, self._weights("learner")
        return {
            f"grpo-{rank}": self._remote(
                GRPOLearner, f"grpo-{rank}", "learner", gpus=1, part=POLICY, sink=sink, **self._rank(rank, world, "policy")
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
                gpus=1,
                part=META_RM,
                cold_start_samples=self._samples,
                other_ends={} if self._tokenizer is None else self._tokenizer.other_ends,
                **self._rank(rank, world, "meta-rm"),
            )
            for rank in range(world)
        }

    def _rank(self, rank: int, world: int, folder: str) -> dict[str, Any]:
        return {
            "config": self._config,
            "rank": rank,
            "world": world,
            "model_path": self._model,
            "checkpoints": self._checkpoints / folder,
            "beside": self._beside[folder],
        }
