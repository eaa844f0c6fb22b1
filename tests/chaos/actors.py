"""Fake engines and a fake learner under the real driver: Ray, the actors, the rollout pool and the streams are those of a run.

For what needs many workers, or several nodes, on a machine that has room for one engine.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from actors.generator import SamplingEngine
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup
from launch.cluster.training_actors import TrainingActors
from launch.driver.best_checkpoint import BestCheckpoint
from launch.driver.online_rl import Training
from launch.driver.run_state import RunState
from launch.judging.run_judgements import RunJudgements
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.tracker import Tracker
from tests.chaos.components import VIEWS, judgement, preferences, take
from tests.chaos.workers import FakeLearner
from tests.fakes import TimedEngine


class FakeActors(TrainingActors):
    """seconds: what a group takes in an engine."""

    seconds = 0.4

    def _engine(self, number: int) -> Callable[[], SamplingEngine]:
        seconds, places = self.seconds, self._config.rollout.max_groups * VIEWS
        return lambda: TimedEngine(judgement, seconds=lambda request: seconds, places=places)

    def _make_others(self) -> None:
        super()._make_others()
        self.grpo = ActorGroup(
            "the GRPO learner", make=self._make_fake, start=lambda made: [a.start.remote() for a in made], end=self._end
        )

    def _make_fake(self) -> dict[str, Any]:
        actor = self._remote(
            FakeLearner,
            "grpo-0",
            "learner",
            config=self._config,
            sink=self._weights("learner"),
            checkpoints=self._checkpoints,
        )
        return {"grpo-0": actor}


Kind = TypeVar("Kind", bound=FakeActors)


def fake_actors(cluster: Any, config: Config, folder: Path, *, kind: type[Kind], note: Callable[[str], None] = print) -> Kind:
    return kind(
        cluster,
        config,
        model="",
        preferences=preferences(),
        checkpoints=folder / "checkpoints",
        cold_start_samples=None,
        beside={},
        note=note,
    )


def training(
    config: Config, actors: FakeActors, folder: Path, progress: ProgressDisplay, judgements: RunJudgements | None = None
) -> Training:
    return Training(
        config,
        actors=actors,
        prompts=SimpleNamespace(take=take),  # type: ignore[arg-type]
        judgements=judgements,  # type: ignore[arg-type]  # None where nothing is evaluated
        tracker=Tracker(folder, "fake", {}, "spct", "disabled"),
        progress=progress,
        run_state=RunState(folder / "run_state.json"),
        best=BestCheckpoint(folder / "checkpoints"),
    )
