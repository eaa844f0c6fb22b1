"""A run is cut off with all its processes at a random instant and resumed: at eta = 0 it ends with the same losses, to the
last bit, as one that was never stopped. SPCT_CUTS=6 cuts at more places (see docs/log.md).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.whole_run import ROOT, SMALL, Ended, environment, finish, mentioning, run, start

pytestmark = pytest.mark.chaos

SAME = (
    *SMALL,
    "grpo.steps=8",
    "grpo.max_staleness=0",
    "meta_rm.enabled=false",
    "eval.every=0",
    "learner.checkpoint_every=3",
    "run.seed=5",
    "redis.claim_timeout_s=2",
)


def policy(folder: Path) -> Path:
    return folder / "checkpoints" / "policy"


def writing(folder: Path) -> bool:
    """A checkpoint is being written."""
    return any(policy(folder).glob(".unfinished-*"))


def renamed(folder: Path) -> bool:
    """The first checkpoint is whole; its entries are being acknowledged."""
    return (policy(folder) / "version-000003").exists()


def reached(version: int) -> Callable[[Path], bool]:
    def there(folder: Path) -> bool:
        file = folder / "metrics.jsonl"
        return file.exists() and f'"learner/version": {version}.0' in file.read_text()

    return there


CUTS: list[Callable[[Path], bool]] = [reached(4), writing, renamed, reached(1), reached(2), reached(5)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    ended = run(tmp_path_factory.mktemp("whole"), "whole", *SAME)
    assert ended.status == 0, ended.output
    return ended


@pytest.mark.parametrize("number", range(int(os.environ.get("SPCT_CUTS", "1"))))
def test_a_run_that_was_cut_off_ends_like_one_that_was_not(whole: Ended, tmp_path: Path, number: int) -> None:
    process, folder = start(tmp_path, "cut", *SAME), tmp_path / "cut"
    deadline = time.monotonic() + 300
    while not CUTS[number](folder):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(random.Random(number).uniform(0, 0.3) if number in (0, 3, 4, 5) else 0)
    cut_off(process, folder)
    command = [sys.executable, str(ROOT / "launch" / "run.py"), "--resume", str(folder)]
    resumed = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    ended = finish(resumed, folder)
    assert ended.status == 0, ended.output
    expected, found = surviving(whole), surviving(ended)
    assert sorted(expected) == list(range(1, 9))
    assert found == {version: expected[version] for version in found}
    # The step that a checkpoint holds, and whose report the driver did not live to get, is trained and not logged.
    assert len(found) >= 7 if CUTS[number] is renamed else len(found) == 8
    assert ended.summary["accuracy"] == whole.summary["accuracy"]
    assert ended.summary["groups"] == whole.summary["groups"] | {"issued": ended.summary["groups"]["issued"]}
    assert not mentioning(str(folder))


def surviving(ended: Ended) -> dict[float, tuple[float, float, float]]:
    """{version: losses and gradient norm} of the steps behind the last weights: what was lost was trained again later."""
    names = ("loss/policy", "loss/kl", "optim/grad_norm")
    records = [json.loads(line)["metrics"] for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "learner/version" in record]
    return {record["learner/version"]: tuple(record[name] for name in names) for record in steps}


def cut_off(process: subprocess.Popen[str], folder: Path) -> None:
    """SIGKILL for the driver and whatever it started, as when the machine's plug is pulled."""
    pids = [process.pid, *mentioning(str(folder))]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()
    deadline = time.monotonic() + 60
    while left := mentioning(str(folder)):
        assert time.monotonic() < deadline, left
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
