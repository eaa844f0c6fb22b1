"""A run with a fake cluster, for the tests of its beginning and its end."""

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from buffer.streams import Address
from configs.load import dump, load
from configs.schema import Config
from launch.cli import exit_status
from launch.driver.pipeline import Pipeline
from launch.monitoring.console import ProgressDisplay


class FakeCluster:
    """In place of Ray's; remembers whether it is open."""

    def __init__(self, url: str) -> None:
        self._url, self.entered, self.closed = url, False, False
        self.refuses: Exception | None = None

    def __call__(self, config: Config, *, run_id: str, folder: Path, model: str, continued: bool, **gpus: Any) -> Self:
        self._run_id = run_id
        return self

    def __enter__(self) -> Self:
        if self.refuses:
            raise self.refuses
        self.entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def drawn_gpus(self) -> list[str]:
        return ["a: policy 8", "b: policy 3, engine 1"]

    def address(self) -> Address:
        return Address(self._url, self._run_id)

    def require_shared_folder(self) -> None:
        """It has one node."""


Begin = Callable[..., Pipeline]


def pipeline_of(tmp_path: Path, *more: str, resume: bool = False) -> Pipeline:
    """The pipeline of a small run with more overrides, or of one that is resumed."""
    small = ["data.train=tiny:1:20", "data.heldout=tinyheld:2:4:2", "tracking.mode=disabled"]
    config = load("tiny", [*small, f"run.dir={tmp_path}", f"run.id={tmp_path.name}", *more])
    if resume:
        (tmp_path / tmp_path.name / "cold_start").mkdir(parents=True, exist_ok=True)
        (tmp_path / tmp_path.name / "config.yaml").write_text(dump(config))
    return Pipeline(config, preset="tiny", progress=ProgressDisplay(config.grpo.steps, 1), resume=resume)


def ended(run: Pipeline, error: BaseException | None) -> int:
    """The exit status of a run whose stages end with this error."""

    def train() -> int:
        with run:
            if error is not None:
                raise error
        return 0

    return exit_status(train)


def summary(run: Pipeline) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run.folder / "summary.json").read_text())
    return values
