"""eta = 0 is the synchronous algorithm: the same losses, to the last bit, as a plain loop."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.whole_run import ROOT, Ended, environment, run

pytestmark = pytest.mark.slow

SAME = (
    "grpo.steps=4",
    "grpo.batch_groups=4",
    "rollout.samples=4",
    "grpo.max_staleness=0",
    "meta_rm.enabled=false",
    "data.train=tiny:1:100",
    "data.heldout=tinyheld:2:12:2",
    "run.seed=5",
    "eval.every=2",
    "eval.during_limit=6",
    "rollout.max_groups=32",
    "cold_start.enabled=false",
    "eval.votes=[]",
)


def losses(ended: Ended) -> list[tuple[float, float]]:
    assert ended.status == 0, ended.output
    return list(zip(ended.series("loss/policy"), ended.series("loss/kl"), strict=True))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return run(tmp_path_factory.mktemp("same"), "first", *SAME)


@pytest.mark.full
def test_two_runs_with_one_seed_are_equal_to_the_last_bit(first: Ended, tmp_path: Path) -> None:
    second = run(tmp_path, "second", *SAME)
    assert losses(first) == losses(second)
    assert len(set(losses(first))) == 4
    assert first.series("optim/grad_norm") == second.series("optim/grad_norm")
    assert first.series("eval/accuracy@1") == second.series("eval/accuracy@1")


def test_they_equal_a_plain_synchronous_loop(first: Ended) -> None:
    command = [sys.executable, str(ROOT / "launch" / "dev" / "synchronous.py"), "--json", *SAME]
    plain = subprocess.run(command, env=environment(), text=True, capture_output=True, timeout=300, check=False)
    assert plain.returncode == 0, plain.stderr
    expected = [float.fromhex(loss) for loss in json.loads(plain.stdout.splitlines()[-1])]
    beta = 0.01
    assert [policy + beta * kl for policy, kl in losses(first)] == expected


def test_staleness_is_zero_throughout(first: Ended) -> None:
    assert first.series("staleness/max") == [0, 0, 0, 0]
