"""`tracking.tensorboard` of an evaluation: its figures go there as well, or it is refused before anything is asked."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.evaluate import main
from launch.judging import evaluation_checks
from launch.monitoring import tensorboard_files
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer


def evaluated(server: FakeServer, folder: Path) -> int:
    server.reply = reply
    data = rows(folder / "data.jsonl", *ROWS)
    usual = ["--endpoint", server.url, "--model", "judge", "--data", data, "--k", "0", "--out", str(folder / "out")]
    return main([*usual, "tracking.mode=disabled", "tracking.tensorboard=true"])


def test_without_the_package_nothing_is_asked(
    judge_server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    missing: Any = lambda name, *more: None if name == "tensorboard" else find(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert evaluated(judge_server, tmp_path) == 2
    assert "needs the package tensorboard" in capsys.readouterr().err
    assert judge_server.asked == []


def test_its_figures_are_written(judge_server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is a fake: the package may be missing."""
    written = list[str]()
    writer = SimpleNamespace(add_scalar=lambda name, value, step: written.append(name), close=lambda: written.append("closed"))
    monkeypatch.setattr(evaluation_checks, "require_installed", lambda tracking: None)
    monkeypatch.setattr(tensorboard_files, "open_writer", lambda folder: writer)
    assert evaluated(judge_server, tmp_path) == 0
    assert "eval/accuracy@1" in written
    assert written[-1] == "closed"
