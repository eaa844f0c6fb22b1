"""The Ray head dies with all that is on it: the run ends by itself with an error, and is resumed on another head."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.cluster.ray_head import Head, started
from tests.launch.whole_run import ROOT, SMALL, finish, mentioning, wait_for

pytestmark = pytest.mark.chaos

LONG = (*SMALL, "grpo.steps=12", "eval.every=0", "meta_rm.enabled=false", "learner.checkpoint_every=2")


def drive(head: Head, where: Path, *options: str) -> subprocess.Popen[str]:
    """A driver on the head's machine that is no child of the head."""
    env = {name: value for name, value in head.env.items() if name != "SPCT_TEST_HEAD"} | {"RAY_ADDRESS": head.gcs}
    command = [sys.executable, str(ROOT / "launch" / "run.py"), *options]
    return subprocess.Popen(command, cwd=where, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_run_whose_head_dies_ends_and_is_resumed_on_another(tmp_path: Path) -> None:
    folder = tmp_path / "beheaded"
    with started() as head:
        process = drive(head, tmp_path, "--config", "tiny", f"run.dir={tmp_path}", "run.id=beheaded", *LONG)
        wait_for(folder, '"learner/version": 5.0', process)
        head.kill()
        began = time.monotonic()
        output, _ = process.communicate(timeout=240)
    assert process.returncode not in (0, None), output
    print(f"ended {time.monotonic() - began:.0f} s after its head with status {process.returncode}: {output[-1500:]}")
    assert "Ray" in output
    # Ray ends the driver's process from within, so nothing of it can see W&B's monitor off, which ends a moment later.
    deadline = time.monotonic() + 60
    while left := mentioning(str(folder)):
        assert time.monotonic() < deadline, f"something outlived the run: {left}"
        time.sleep(0.1)
    with started() as head:
        ended = finish(drive(head, tmp_path, "--resume", str(folder)), folder)
    assert ended.status == 0, ended.output
    assert ended.summary["steps"] == 12
    assert ended.summary["groups"]["trained"] == 12 * 4
