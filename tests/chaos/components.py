"""The components of a run as processes that may be killed at any instant.

Real: the streams, the ledger, checkpoints, the rollout and reward actors, both learners' intakes, the driver's issuing. Fake:
the engine (latency in place of decoding) and the gradients (a learner's weights are the list of the groups that it was trained
on, so what they hold can be counted).
"""

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.generator import Request
from actors.reward import RewardActor
from actors.rollout import RolloutActor
from buffer.heartbeat import Heartbeat
from buffer.ledger import Cursor, Ledger
from buffer.messages import View
from buffer.streams import Address, connect
from buffer.weights import NONE, Edition, PublishedWeights, WeightSink, seal
from configs.schema import Config
from grm.preferences import Preference, Question
from launch.driver.issue import issue
from launch.setup.prompt_source import Draft
from learner import checkpoint
from learner.experience import ReceivedGroup
from learner.grpo_intake import Intake
from learner.meta_intake import MetaIntake
from tests.fakes import FakeEngine

DULL = 5  # every fifth group has equal rewards: nothing to train on
VOCABULARY = 1 << 20
VIEWS = 2  # of a prompt: an engine has a request for each


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What every process needs."""

    config: Config
    """The run's."""
    folder: Path
    """Of weights and checkpoints."""
    addresses: dict[str, Address]
    """Where the streams are, by role."""


class FileWeights:
    """Published weights as a small file: `WeightSink` and `WeightSource` of processes without Ray."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "published.json"

    def publish(self, weights: PublishedWeights) -> None:
        draft = self._file.with_name(f"published.{time.monotonic_ns()}")
        draft.write_text(json.dumps(weights.edition))
        draft.replace(self._file)

    def republish_if_lost(self) -> None:
        """A file is not lost."""

    def newest(self) -> Edition:
        return Edition(*json.loads(self._file.read_text())) if self._file.exists() else NONE

    def pull(self) -> PublishedWeights | None:
        edition = self.newest()
        return None if edition is NONE else sealed(edition)


def sealed(edition: Edition) -> PublishedWeights:
    arrays = {"w": np.zeros(2, np.float32)}
    return seal(edition.version, arrays, {"w": "float32"}, incarnation=edition.incarnation)


class LatentEngine(FakeEngine):
    """Finishes one group after another, each after a while; now and then one is a straggler."""

    def __init__(self, seed: str, mean_s: float) -> None:
        super().__init__(judgement)
        self.automatic = False
        self._random, self._mean_s = random.Random(seed), mean_s
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.steps += 1
            straggles = self._random.random() < 0.02
            time.sleep(self._random.expovariate(1 / self._mean_s) * (20 if straggles else 1))
            self.finish(1)


def judgement(request: Request, sample: int) -> str:
    """Says that the best stands first, and in the dull groups that it stands where it does: first in the first of two views.
    A prompt is 7, the group, and where the best stands."""
    group, place = request.token_ids[1:3]
    first = place == 0 or group % DULL != 0
    return f"Specific Criteria: brevity 70%\nAnalysis: fine.\nScores: \\boxed{{{'9, 2' if first else '2, 9'}}}"


def preferences(count: int = 40) -> list[Preference]:
    return [Preference(question=Question(id=f"p{i}", query="q", responses=("a", "b")), label=0) for i in range(count)]


def take(cursor: Cursor, count: int) -> list[tuple[Draft, Cursor]]:
    """Prompts by position, as `PromptSource.take` gives them."""
    size = len(preferences())
    taken = []
    for _ in range(count):
        views = (
            View(permutation=(0, 1), token_ids=(7, cursor.group, 0), samples=1),
            View(permutation=(1, 0), token_ids=(7, cursor.group, 1), samples=1),
        )
        draft = Draft(preference=f"p{cursor.index}", views=views)
        wraps = cursor.index + 1 == size
        cursor = Cursor(group=cursor.group + 1, epoch=cursor.epoch + wraps, index=0 if wraps else cursor.index + 1)
        taken.append((draft, cursor))
    return taken


# ---- the processes ---------------------------------------------------------------------------------------------------


def driver(stage: Stage, name: str, seed: str) -> None:
    address = stage.addresses["driver"]
    ledger = Ledger(connect(address), address.run_id)
    heartbeat = Heartbeat(address, "driver", every_s=0.2, hang_s=60)
    while True:
        issue(ledger, stage.config, take)
        heartbeat.progressed()
        time.sleep(0.01)


def rollout(stage: Stage, name: str, seed: str) -> None:
    actor = RolloutActor(
        config=stage.config,
        name=name,
        address=stage.addresses["rollout"],
        source=FileWeights(stage.folder),
        build=lambda: LatentEngine(seed, mean_s=0.01),
    )
    actor.ready()
    while True:
        actor.work(0.2)


def reward(stage: Stage, name: str, seed: str) -> None:
    actor = RewardActor(config=stage.config, name=name, address=stage.addresses["reward"], preferences=preferences())
    while True:
        actor.work(0.2)


def learner(stage: Stage, name: str, seed: str) -> None:
    address, sink = stage.addresses["learner"], FileWeights(stage.folder)
    list_learner = ListLearner(stage.config, address, sink, stage.folder / "policy", name)
    while list_learner.version < stage.config.grpo.steps:
        list_learner.step(0.2)
    list_learner.close()


class ListLearner:
    """The steps of `GRPOLearner`, in its order, with a list of (group, issue version, version) in the place of a model."""

    def __init__(self, config: Config, address: Address, sink: WeightSink, folder: Path, name: str) -> None:
        self._config, self._sink, self._folder = config, sink, folder
        self.version, entries, self._weights = restored(folder)
        self._intake = Intake(config, address, VOCABULARY)
        self._incarnation, self.version = self._intake.recover(self.version, entries)
        self._heartbeat = Heartbeat(address, name, every_s=config.heartbeat_interval_s, hang_s=60)
        sink.publish(sealed(Edition(self._incarnation, self.version)))

    def step(self, seconds: float) -> list[ReceivedGroup]:
        """The batch that it was trained on; none when there was none within `seconds`."""
        self._sink.republish_if_lost()
        batch = self._intake.wait(self.version, seconds)
        if not batch:
            return []
        time.sleep(0.005)  # the gradient
        self._weights += [[received.group.group, received.group.issued_at, self.version] for received in batch]
        self.version += 1
        self._sink.publish(sealed(Edition(self._incarnation, self.version)))
        self._intake.trained(self.version, batch)
        self._heartbeat.done, self._heartbeat.version = len(self._weights), self.version
        if self.version % self._config.learner.checkpoint_every == 0 or self.version == self._config.grpo.steps:
            save(self._folder, self.version, self._intake.unacknowledged, self._weights)
            self._intake.saved(self.version, self._intake.unacknowledged)
        return batch

    def close(self) -> None:
        self._heartbeat.stop()


def meta_rm(stage: Stage, name: str, seed: str) -> None:
    """The steps of `MetaRMLearner`, likewise."""
    config, address, folder = stage.config, stage.addresses["meta-rm"], stage.folder / "meta-rm"
    version, entries, weights = restored(folder)
    intake = MetaIntake(config, address, VOCABULARY)
    intake.recover(entries)
    heartbeat = Heartbeat(address, name, every_s=0.2, hang_s=60)
    while True:
        batch = intake.wait(0.2)
        if not batch:
            continue
        weights += [[received.group.group] for received in batch]
        version += 1
        intake.trained(batch)
        heartbeat.done, heartbeat.version = len(weights), version
        if version % config.learner.checkpoint_every == 0:
            save(folder, version, intake.unacknowledged, weights)
            intake.saved(intake.unacknowledged)


ROLES: dict[str, Callable[[Stage, str, str], None]] = {
    "driver": driver,
    "rollout": rollout,
    "reward": reward,
    "learner": learner,
    "meta-rm": meta_rm,
}


def save(folder: Path, version: int, entries: tuple[str, ...], weights: list[list[int]]) -> None:
    unfinished = checkpoint.begin(folder, version)
    (unfinished / "weights.json").write_text(json.dumps(weights))
    checkpoint.commit(folder, checkpoint.Record(version=version, entries=entries, ranks=1, zero_stage=0), keep=2)


def restored(folder: Path) -> tuple[int, tuple[str, ...], list[list[int]]]:
    """-> (version, entries, weights) of the newest checkpoint."""
    found = checkpoint.newest(folder)
    if found is None:
        return 0, (), []
    path, record = found[0], found[1]
    return record.version, record.entries, json.loads((path / "weights.json").read_text())
