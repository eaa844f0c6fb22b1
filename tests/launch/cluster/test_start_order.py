"""Who starts first, with recorded groups on a real server."""

from typing import Any

import pytest

from buffer.heartbeat import Heartbeat
from buffer.rollout_target import rollout_target
from buffer.streams import Address
from configs.load import load
from launch.cluster.stage_actors import StageActors


class Recorded:
    """In place of a group: it notes when it begins."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log
        self.actors: list[Any] = []

    def begin(self) -> None:
        self._log.append(f"{self.name} begins")

    def end(self) -> None:
        pass


class Room:
    """In place of a cluster: there is room for so many workers, and nothing is started."""

    def __init__(self, address: Address, folder: Any, *, gpus: int = 1, room: int = 1) -> None:
        self._address, self._folder, self.gpus, self._room = address, folder, gpus, room

    def address(self, stage: str = "", *, role: str = "driver") -> Address:
        return self._address

    def stacks(self, name: str) -> Any:
        return self._folder / name

    def remote(self, *_: Any, **__: Any) -> Any:
        return None

    def stop_last(self, heartbeat: Heartbeat) -> None:
        """It ends with the process of the tests."""

    def places(self, **_: Any) -> int:
        return self._room

    def shortage(self, **_: Any) -> str:
        return "each asks for 1 GPU"

    def end(self, actors: Any) -> None:
        pass


class Stage(StageActors):
    """A stage with a learner."""

    def __init__(self, *arguments: Any, log: list[str], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._log = log

    @property
    def groups(self) -> list[Any]:
        return [self.learner, *self.rollout_groups]

    def _make_others(self) -> None:
        self.learner = Recorded("the learner", self._log)

    def new_rollout(self) -> Any:
        return Recorded("the engine", self._log)

    def _await_ready(self, groups: Any) -> None:
        self._log.append(f"{', '.join(group.name for group in groups)} ready")


ON_ONE_GPU = ["the learner begins", "the learner ready", "the engine begins", "the learner, the engine ready"]
SEPARATE = ["the learner begins", "the engine begins", "the learner, the engine ready"]


@pytest.mark.parametrize(("shared", "order"), [("true", ON_ONE_GPU), ("false", SEPARATE)])
def test_on_one_gpu_the_learners_are_ready_before_the_engine_begins(
    shared: str, order: list[str], address: Address, tmp_path: Any
) -> None:
    log: list[str] = []
    config = load("tiny", ["cluster.device=cuda", f"cluster.share_gpu={shared}"])
    with Stage(Room(address, tmp_path), config, model="m", note=print, log=log):
        pass
    assert log == order


@pytest.mark.parametrize(
    ("gpus", "room", "changes", "engines"),
    [
        (8, 8, (), 8),  # the run's learners do not run in this stage, and their GPUs sample
        (8, 8, ("rollout.tensor_parallel=2",), 4),
        (8, 5, (), 5),  # somebody else has three
        (1, 2, ("rollout.workers=2",), 2),
        (0, 2, ("cluster.device=cpu", "rollout.workers=2"), 2),
    ],
)
def test_a_stage_without_learners_samples_on_all_gpus_of_the_run(
    gpus: int, room: int, changes: tuple[str, ...], engines: int, address: Address, tmp_path: Any
) -> None:
    log: list[str] = []
    cluster: Any = Room(address, tmp_path, gpus=gpus, room=room)
    config = load("tiny", ["cluster.device=cuda", *changes])
    with Stage(cluster, config, model="m", note=log.append, log=log) as stage:
        assert log.count("the engine begins") == engines
        assert rollout_target(stage.redis, stage.address.run_id) == engines, "by which they share the prompts"
