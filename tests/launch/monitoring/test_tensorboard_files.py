"""TensorBoard's files: each metric at the step of its axis, and a clear refusal where the package is missing."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError, load
from launch.monitoring import tensorboard_files
from launch.monitoring.tensorboard_files import require_installed, write
from launch.monitoring.tracker import Tracker


class Written:
    """A fake of torch's writer that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))

    def close(self) -> None:
        self.rows.append(("closed", 0.0, 0))


def test_without_the_package_a_run_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package tensorboard: pip install tensorboard"):
        require_installed(load("tiny", ["tracking.tensorboard=true"]).tracking)
    require_installed(load("tiny").tracking)


def test_each_metric_stands_at_the_step_of_its_axis() -> None:
    writer: Any = Written()
    write(writer, {"learner/version": 7.0, "loss/kl": 0.5, "time/elapsed_s": 61.9, "rollout/workers": 2.0})
    assert writer.rows == [("loss/kl", 0.5, 7), ("rollout/workers", 2.0, 61)]


def test_the_tracker_writes_what_it_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer: Any = Written()
    monkeypatch.setattr(tensorboard_files, "open_writer", lambda run: writer)
    tracker = Tracker(tmp_path, "r", {}, "p", "disabled", tensorboard=True)
    tracker.log({"learner/version": 1, "reward/mean": 0.25})
    tracker.finish({})
    assert writer.rows == [("reward/mean", 0.25, 1), ("closed", 0.0, 0)]


def test_its_reader_finds_the_values(tmp_path: Path) -> None:
    """With the real writer and reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = Tracker(tmp_path, "r", {}, "p", "disabled", tensorboard=True)
    for version in (1, 2):
        tracker.log({"learner/version": version, "reward/mean": version / 4})
    tracker.finish({})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(1, 0.25), (2, 0.5)]
