"""A run that is resumed: no session of it writes over another one when it is synced."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from launch.monitoring.tracker import Tracker
from launch.monitoring.wandb_sessions import session_id
from tests import wandb_file
from tests.fake_wandb_server import HISTORY, FakeWandbServer

STAMP = "20260101_120000"


@pytest.mark.parametrize(
    ("sessions", "online", "offline"),
    [
        ([], "r", "r"),
        ([f"offline-run-{STAMP}-r"], "r.resumed-2", "r.resumed-2"),
        ([f"run-{STAMP}-r"], "r", "r.resumed-2"),
        ([f"run-{STAMP}-r", f"offline-run-{STAMP}-r.resumed-2"], "r", "r.resumed-3"),
        ([f"offline-run-{STAMP}-r", f"run-{STAMP}-r.resumed-2"], "r.resumed-2", "r.resumed-3"),
        ([f"offline-run-{STAMP}-other", "latest-run", "run-r", "offline-run-r"], "r", "r"),
    ],
)
def test_a_session_has_the_id_of_no_other_one_that_was_offline(
    tmp_path: Path, sessions: list[str], online: str, offline: str
) -> None:
    for name in sessions:
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert session_id(tmp_path, "r", "online") == online
    assert session_id(tmp_path, "r", "offline") == offline


def test_an_id_is_never_too_long(tmp_path: Path) -> None:
    (tmp_path / "wandb" / f"offline-run-{STAMP}-{'x' * 64}").mkdir(parents=True)
    second = session_id(tmp_path, "x" * 64, "offline")
    assert second == "x" * 54 + ".resumed-2"
    (tmp_path / "wandb" / f"offline-run-{STAMP}-{second}").mkdir(parents=True)
    assert session_id(tmp_path, "x" * 64, "offline") == "x" * 54 + ".resumed-3"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after version 3, as its file shows, and went on to version 6."""
    folder = tmp_path_factory.mktemp("run")
    modes: list[Literal["offline"]] = ["offline", "offline"]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for number, mode in enumerate(modes):
            tracker = Tracker(folder, "run-1", {"seed": 7}, "spct-test", mode)
            for version in range(3 * number + 1, 3 * number + 4):
                tracker.log({"learner/version": version, "reward/mean": version / 10})
            tracker.finish({"finished": "completed"})
            if number == 0:
                file = wandb_file.find(folder)
                os.truncate(file, file.stat().st_size - 9)
    return folder


def test_the_files_of_both_sessions_hold_their_own_part(resumed: Path) -> None:
    files = sorted({path.resolve() for path in resumed.glob("wandb/*/run-*.wandb")})
    first, second = map(wandb_file.read, files)
    assert (first.run_id, first.group, first.whole) == ("run-1", "run-1", False)
    assert (second.run_id, second.group, second.whole) == ("run-1.resumed-2", "run-1", True)
    assert [run.series("learner/version") for run in (first, second)] == [[1, 2, 3], [4, 5, 6]]
    assert second.series("time/elapsed_s") > first.series("time/elapsed_s"), "the axis of time goes on"
    assert first.step_metrics == second.step_metrics


@pytest.fixture
def server() -> Iterator[FakeWandbServer]:
    fake = FakeWandbServer()
    yield fake
    fake.close()


@pytest.mark.full
def test_synced_twice_both_sessions_are_there(resumed: Path, server: FakeWandbServer, tmp_path: Path) -> None:
    """By wandb's own `sync`. Under one id the killed session would keep the other from ever being uploaded."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",
        "NO_PROXY": "127.0.0.1",
    }
    for _ in range(2):
        command = [sys.executable, "-m", "wandb", "sync", str(resumed / "wandb")]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert set(server.runs) == {"run-1", "run-1.resumed-2"}, f"{done.stderr}\n{server.asked}"
        assert {run.group for run in server.runs.values()} == {"run-1"}
        first, second = server.runs["run-1"], server.runs["run-1.resumed-2"]
        assert first.series("learner/version")[:3] == [1, 2, 3]
        assert second.series("learner/version") == [4, 5, 6]
        assert [json.loads(line)["_step"] for line in second.lines[HISTORY]] == [0, 1, 2]
