"""Each way in which a part of a run can fail always: the run ends, within its tries, with that part's own error and status 1.

Actors are threads here. A part fails at its start, at its first step, at saving or at publishing; it dies, or raises an error
that another try may or may not meet again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load
from launch.cli import exit_status
from launch.cluster import calls
from launch.cluster.actor_group import ActorGroup
from launch.cluster.stage_actors import StageActors
from launch.cluster.supervision import SupervisedGroup, await_ready, poll
from launch.driver.fine_tuning import fine_tune
from launch.driver.online_rl import Training
from tests.launch.cluster.local_ray import LocalActor, LocalCluster, LocalRay, RayError

RESTARTS, SAVES_EVERY = 2, 3
CONFIG = load("tiny", [f"cluster.restarts={RESTARTS}"])
LONG = 20  # made as often, a part is tried for ever

ERRORS: dict[str, tuple[Exception, int, str]] = {
    # what it fails with, how often it is made, its own error
    "death": (RayError("The actor died unexpectedly.\n\tpid: 1"), RESTARTS + 1, "The actor died unexpectedly."),
    "disk": (OSError(5, "Input/output error"), RESTARTS + 1, "OSError: [Errno 5] Input/output error"),
    "program": (RuntimeError("an engine\nerror"), RESTARTS + 1, "RuntimeError: an engine error"),
    "data": (
        ValueError("generation_config.json: temperature\nwithout do_sample"),
        1,
        "ValueError: generation_config.json: temp",
    ),
}


@dataclass
class Report:
    """Of any part."""

    version: int = 0
    completions: int = 0


class Part:
    """Any actor of a run. What it has saved is what the next one of its kind begins from."""

    def __init__(self, fails: str, error: Exception, saved: list[int]) -> None:
        self._fails, self._error, self._saved = fails, error, saved
        self.version = saved[-1] if saved else 0

    def ready(self) -> None:
        self._at("start")

    def start(self) -> None:
        self._at("start")

    def work(self, seconds: float) -> Report:
        """A worker: the second slice is the one that publishes, or pulls what was published."""
        self._at("first step")
        self.version += 1
        if self.version % 2 == 0:
            self._at("publishing")
        return Report(completions=4)

    def step(self, seconds: float = 0.0) -> Report:
        self._at("first step")
        self.version += 1
        if self.version == 2:
            self._at("publishing")
        if self.version % SAVES_EVERY == 0:
            self.save()
        return Report(version=self.version)

    def save(self) -> None:
        self._at("saving")
        self._saved.append(self.version)

    def __ray_ready__(self) -> None:
        """It lives."""

    def _at(self, place: str) -> None:
        if place == self._fails:
            raise self._error


class Stage:
    """Makes parts of one kind, and counts them."""

    def __init__(self, fails: str, error: Exception) -> None:
        self.fails, self.error, self.saved, self.made = fails, error, list[int](), list[LocalActor]()
        self.notes: list[str] = []

    def actor(self, *_: Any, **__: Any) -> LocalActor:
        assert len(self.made) < LONG, f"tried for ever: {self.notes[-3:]}"
        self.made.append(LocalActor(Part(self.fails, self.error, self.saved)))
        return self.made[-1]

    def group(self, name: str) -> ActorGroup:
        def start(actors: Any) -> list[Any]:
            return [actor.ready.remote() for actor in actors]

        return ActorGroup(name, make=lambda: {name: self.actor()}, start=start, end=lambda made: None)

    def supervised(self, name: str) -> SupervisedGroup:
        group = self.group(name)
        group.begin()
        return SupervisedGroup(group, on_report=lambda report: None, restarts=RESTARTS, note=self.notes.append)


def worker(stage: Stage) -> None:
    _drive(stage.supervised("the part"), SupervisedGroup.work)


def learner(stage: Stage) -> None:
    _drive(stage.supervised("the part"), SupervisedGroup.step)


def _drive(part: SupervisedGroup, give: Callable[[SupervisedGroup], None]) -> None:
    """As the driver does, for ever."""
    await_ready([part], limit_s=30)
    while True:
        give(part)
        poll([part])


def fine_tuning(stage: Stage) -> None:
    cluster = LocalCluster()
    more: dict[str, Any] = {"remote": stage.actor, "start_ranks": lambda ranks: [rank.start.remote() for rank in ranks]}
    fake: Any = SimpleNamespace(
        held_gpus=0, end=cluster.end, await_all=lambda waiting: calls.answers(list(waiting), limit_s=30, what=""), **more
    )
    where = {"model": "m", "folder": Path("nowhere"), "beside": {}}
    fine_tune(fake, CONFIG, **where, on_report=lambda report: None, note=stage.notes.append)


def last_checkpoint(stage: Stage) -> None:
    """The meta-RM's, behind the policy's last step."""
    actors = StageActors(LocalCluster(), CONFIG, model="m", note=stage.notes.append)  # type: ignore[arg-type]
    meta_rm = stage.group("the part")
    meta_rm.begin()
    actors.rollout_groups, actors.watch = [meta_rm], lambda: None  # type: ignore[method-assign]
    actors._await_ready([meta_rm])
    training: Any = Training.__new__(Training)
    training._actors, training._config, actors.meta_rm = actors, CONFIG, meta_rm  # type: ignore[attr-defined]
    training._save_meta_rm()


PARTS: dict[str, tuple[Callable[[Stage], None], tuple[str, ...]]] = {
    "rollout actor or reward actor": (worker, ("start", "first step", "publishing")),
    "GRPO learner or meta-RM learner": (learner, ("start", "first step", "publishing", "saving")),
    "rank of the fine-tuning": (fine_tuning, ("start", "first step", "publishing", "saving")),
    "meta-RM learner at the end": (last_checkpoint, ("start", "saving")),
}
TABLE = [
    (part, fails, error)
    for part, (drive, places) in PARTS.items()
    for fails in places
    for error in ERRORS
    # A worker that dies after it has handed groups on got further each time.
    if not (drive is worker and fails == "publishing" and error in ("death", "disk"))
]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    monkeypatch.setattr(calls, "ray", LocalRay)
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    stages: list[Stage] = []

    def made(fails: str, error: Exception) -> Stage:
        stages.append(Stage(fails, error))
        return stages[-1]

    yield made
    for actor in [actor for stage in stages for actor in stage.made]:
        actor.end()


@pytest.mark.parametrize(("part", "fails", "error"), TABLE)
def test_a_part_that_fails_always_ends_the_run_within_its_tries_with_its_own_error(
    part: str, fails: str, error: str, stage: Callable[..., Stage], capsys: pytest.CaptureFixture[str]
) -> None:
    raised, times, own = ERRORS[error]
    failing, drive = stage(fails, raised), PARTS[part][0]

    def run() -> int:
        drive(failing)
        return 0

    assert exit_status(run) == 1
    message = capsys.readouterr().err
    assert own in message
    assert message.startswith(("failed: the part failed", "failed: the fine-tuning failed"))
    assert message.count("\n") == 1, "a sentence, and no stack"
    assert "pid" not in message
    assert len(failing.made) == times
    assert len(failing.notes) == times - 1


def test_one_that_dies_once_while_the_stage_starts_is_made_again(stage: Callable[..., Stage]) -> None:
    starting = stage("start", RayError("The node was taken away"))
    part = starting.supervised("a rollout actor")
    starting.fails = "never"
    await_ready([part], limit_s=30)
    assert len(starting.made) == 2
    assert starting.notes == ["a rollout actor died (The node was taken away): replaced, try 1 of 2"]
