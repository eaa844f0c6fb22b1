"""eta = 0 is the synchronous algorithm: the same losses, to the last bit, as a plain loop; and staleness keeps its bound."""

from __future__ import annotations

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
    assert ended.status == 0, ended.said
    return list(zip(ended.series("loss/policy"), ended.series("loss/kl"), strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Ended]:
    where = tmp_path_factory.mktemp("same")
    return [run(where, f"run-{i}", *SAME) for i in range(2)]


def test_two_runs_with_one_seed_are_equal_to_the_last_bit(runs: list[Ended]) -> None:
    first, second = map(losses, runs)
    assert first == second
    assert len(set(first)) == 4
    assert runs[0].series("optim/grad_norm") == runs[1].series("optim/grad_norm")
    assert runs[0].series("eval/accuracy@1") == runs[1].series("eval/accuracy@1")


def test_they_equal_a_plain_synchronous_loop(runs: list[Ended]) -> None:
    command = [sys.executable, str(ROOT / "launch" / "dev" / "synchronous.py"), "--json", *SAME]
    plain = subprocess.run(command, env=environment(), text=True, capture_output=True, timeout=300, check=False)
    assert plain.returncode == 0, plain.stderr
    expected = [float.fromhex(loss) for loss in json.loads(plain.stdout.splitlines()[-1])]
    beta = 0.01
    assert [policy + beta * kl for policy, kl in losses(runs[0])] == expected


def test_staleness_is_zero_throughout(runs: list[Ended]) -> None:
    assert runs[0].series("staleness/max") == [0, 0, 0, 0]


def test_a_wider_bound_is_used_and_kept(tmp_path: Path) -> None:
    wide = [o for o in SAME if not o.startswith(("grpo.max_staleness", "grpo.steps"))]
    ended = run(tmp_path, "wide", *wide, "grpo.max_staleness=4", "grpo.steps=10")
    found = ended.series("staleness/max")
    assert max(found) <= 4
    assert max(found) > 1  # the bound is what holds it, not idleness
