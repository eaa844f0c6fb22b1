"""A run is cut off with all its processes, three times, and resumed: at eta = 0 it ends with the same curves and totals, to the
last bit, as one that was never stopped. SPCT_CUTS=6 cuts at more places (see docs/log.md).
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.monitoring import records
from launch.monitoring.records import Point
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


CUTS: list[tuple[Callable[[Path], bool], ...]] = [
    (reached(1), reached(4), reached(7)),
    (writing,),
    (renamed,),
    (reached(1),),
    (reached(2),),
    (reached(5),),
]
# What of the metrics is of the machine and its clock, and not of the run.
# The two counts stand as they are when a step is reported, and groups arrive and are filtered while it is taken; `totals`
# compares what they come to.
OF_THE_MACHINE = ("time/", "throughput/", "idle/", "rollout/", "queue/", "actors/", "groups/issued", "groups/filtered")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    ended = run(tmp_path_factory.mktemp("whole"), "whole", *SAME)
    assert ended.status == 0, ended.output
    return ended


@pytest.mark.parametrize("number", range(int(os.environ.get("SPCT_CUTS", "1"))))
def test_a_run_that_was_cut_off_ends_like_one_that_was_not(whole: Ended, tmp_path: Path, number: int) -> None:
    process, folder, cuts = start(tmp_path, "cut", *SAME), tmp_path / "cut", random.Random(number)
    for place in CUTS[number]:
        deadline = time.monotonic() + 300
        while not place(folder):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(0 if place in (writing, renamed) else cuts.uniform(0, 0.3))
        cut_off(process, folder)
        process = resume(folder)
    ended = finish(process, folder)
    assert ended.status == 0, ended.output
    assert "resumed at step " in ended.output
    expected, found = curves(whole), curves(ended)
    assert [version for version, _ in expected["reward/mean"]] == list(range(1, 9))
    if CUTS[number] == (renamed,):
        # The step that a checkpoint holds, and whose report the driver did not live to get, is trained and not logged.
        assert all(set(found[name]) <= set(expected[name]) for name in expected)
        assert len(found["loss/policy"]) >= 7
    else:
        assert found == expected
        assert totals(ended) == totals(whole)
    assert not mentioning(str(folder))


def resume(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "launch" / "run.py"), "--resume", str(folder)]
    return subprocess.Popen(
        command, cwd=folder.parent, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def curves(ended: Ended) -> dict[str, list[Point]]:
    """Each metric of the steps, as the report draws it."""
    known = records.read(ended.folder / "metrics.jsonl")
    names = {name for record in known for name in record["metrics"] if not name.startswith(OF_THE_MACHINE)}
    assert {"reward/mean", "parse/failure_rate", "loss/policy", "optim/grad_norm", "eval/accuracy@1"} <= names
    return {name: records.points(known, name)[0] for name in names}


def totals(ended: Ended) -> dict[str, Any]:
    """What the report says of the whole run, but for its duration and what was sampled twice."""
    summary = ended.summary
    names = ("preset", "accuracy", "parse_rate", "strict_parse_rate", "consistency", "staleness", "reward", "meta_rm", "steps")
    return {name: summary[name] for name in names} | {"groups": summary["groups"] | {"issued": None}}


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
