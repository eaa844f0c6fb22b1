"""The cold start is killed while it samples and started again, and a rank of its fine-tuning is killed under it: the end is
the same, and nothing is done twice.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.launch.whole_run import SPCT, await_end_of_all, finish, mentioning, run, start, wait_for

pytestmark = pytest.mark.chaos

RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
LONG = (*SPCT, "cold_start.preferences=40", "cold_start.steps=12", "rollout.max_groups=8")  # a kill falls in the middle


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def by_group(file: Path) -> dict[tuple[str, bool], Any]:
    return {(row["preference"], row["hinted"]): row["completions"] for row in rows(file)}


def test_killed_and_started_again_it_ends_with_the_same_policy(tmp_path: Path) -> None:
    whole = run(tmp_path, "whole", *LONG, entry="cold_start.py")
    assert whole.status == 0, whole.output

    folder = tmp_path / "killed"
    process = start(tmp_path, "killed", *LONG, entry="cold_start.py")
    wait_for(folder, "hinted", process, file_name="cold_start/sampled.jsonl")
    os.kill(process.pid, signal.SIGKILL)
    # Ray's own agents look for their dead raylet once a minute or so, and touch no file of the run.
    await_end_of_all(str(folder), limit_s=180, but=RAYS_AGENTS)
    first = by_group(folder / "cold_start" / "sampled.jsonl")
    assert 0 < len(first) < 80

    ended = run(tmp_path, "killed", *LONG, entry="cold_start.py")
    assert ended.status == 0, ended.output
    assert len(rows(folder / "cold_start" / "sampled.jsonl")) == 80  # none twice
    assert first.items() <= by_group(folder / "cold_start" / "sampled.jsonl").items()
    for file in ("dataset.jsonl", "verdicts.json"):
        assert (folder / "cold_start" / file).read_text() == (whole.folder / "cold_start" / file).read_text()
    assert ended.summary["cold_start"] == whole.summary["cold_start"]  # the steps, the best one, its held-out loss
    assert ended.summary["accuracy"] == whole.summary["accuracy"]

    process = start(tmp_path, "struck", *LONG, entry="cold_start.py")
    wait_for(tmp_path / "struck", '"sft/step": 3.0', process)
    (rank,) = [pid for pid, line in mentioning(str(tmp_path / "struck")).items() if line.startswith("ray::SFTLearner")]
    os.kill(rank, signal.SIGKILL)
    ended = finish(process, tmp_path / "struck")
    assert ended.status == 0, ended.output
    assert "the fine-tuning died" in ended.output
    assert "started again, try 1 of 5" in ended.output
    assert ended.summary["cold_start"] == whole.summary["cold_start"]
    assert ended.summary["accuracy"] == whole.summary["accuracy"]
