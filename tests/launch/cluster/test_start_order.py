"""Who starts first, with recorded groups on a real server."""

from typing import Any

import pytest

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
    """In place of a cluster: there is room for one worker, and nothing is started."""

    def __init__(self, address: Address, folder: Any) -> None:
        self._address, self._folder = address, folder

    def address(self, stage: str = "", *, role: str = "driver") -> Address:
        return self._address

    def stacks(self, name: str) -> Any:
        return self._folder / name

    def remote(self, *_: Any, **__: Any) -> Any:
        return None

    def places(self, **_: Any) -> int:
        return 1

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
