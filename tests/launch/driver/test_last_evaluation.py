"""The last evaluation of a run is supervised: a worker that stops in the middle of it is replaced, and the run ends well.

Real Ray, actors, streams and driver; the engines and the learner are fakes.
"""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from buffer.heartbeat import last_heartbeats
from configs.load import load
from grm.tiny_world import preferences as tiny_preferences
from launch.cluster.ray_cluster import Cluster
from launch.judging.run_judgements import RunJudgements
from launch.monitoring.console import ProgressDisplay
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from tests.chaos.actors import FakeActors, fake_actors, training
from tests.chaos.components import VIEWS
from tests.chaos.workers import SlowJudge
from tests.launch.whole_run import ROOT

JUDGE_S = 5.0  # longer than the last optimiser step takes
CONFIG = load(
    "tiny",
    [
        "grpo.steps=2",
        "grpo.max_staleness=3",  # the last step needs no prompt that is issued while the evaluation runs
        "grpo.batch_groups=4",
        "rollout.samples=2",
        "rollout.workers=1",
        "meta_rm.enabled=false",
        "learner.checkpoint_every=1",
        "eval.every=1",
        "eval.during_limit=4",
        "eval.votes=[]",
        "tracking.samples=2",
        "redis.claim_timeout_s=2",
        "waits.heartbeat_s=3",
        "waits.judge_s=25",
    ],
)


class Actors(FakeActors):
    """Their engine judges slowly."""

    def _engine(self, number: int) -> Any:
        return partial(SlowJudge, 0.05, JUDGE_S, places=self._config.rollout.max_groups * VIEWS)


class StopsTheWorker(ProgressDisplay):
    """Stops the rollout worker (SIGSTOP) as soon as the last step is done, while it judges at version 1."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        self.actors: Actors | None = None

    def update(self, **figures: Any) -> None:
        if figures.get("step") == 2:
            assert self.actors is not None
            last = last_heartbeats(self.actors.redis, self.actors.address.run_id)
            os.kill(last["rollout-0"].pid, signal.SIGSTOP)
            self.note("stopped rollout-0")


def run(folder: Path) -> None:
    """In a process of its own: Ray is started in it."""
    progress = StopsTheWorker()
    judged = [p for p in tiny_preferences(seed=3, count=40) if len(p.question.responses) == 2]
    tokenizer = Tokenizer(str(TINY))
    judgements = RunJudgements(CONFIG, judged, tokenizer=tokenizer, folder=folder / "votes", note=progress.note)
    with (
        Cluster(CONFIG, run_id="last", folder=folder, model="", gpus=0) as cluster,
        fake_actors(cluster, CONFIG, folder, kind=Actors, note=progress.note) as progress.actors,
    ):
        training(CONFIG, progress.actors, folder, progress, judgements).run()


@pytest.mark.full
def test_a_worker_that_stops_under_the_last_evaluation_is_replaced(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    script = f"from pathlib import Path; from tests.launch.driver.test_last_evaluation import run; run(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", script], env=env, timeout=400, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stopped rollout-0" in done.stdout
    assert "a rollout actor died" in done.stdout
    records = [json.loads(line)["metrics"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (evaluation,) = [record for record in records if "eval/version" in record]
    assert (evaluation["eval/version"], evaluation["eval/parse_rate@1"]) == (1, 1)
    assert evaluation["eval/newest_version"] == 2, "the worker that took over judged under the newest weights"
