"""A Ray head started by hand, and the run submitted to it as a job: two rollout workers, two ranks; and `ray job stop`."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.cluster.ray_head import RAY, Head, started
from tests.launch.whole_run import ROOT, SMALL, Ended, mentioning

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started() as running:
        yield running


def submit(head: Head, where: Path, name: str, *overrides: str, **env: str) -> subprocess.Popen[str]:
    entry = ["python", "launch/run.py", "--config", "configs/tiny.yaml", f"run.dir={where}", f"run.id={name}", *overrides]
    command = [
        RAY,
        "job",
        "submit",
        "--address",
        head.dashboard,
        "--submission-id",
        name,
        "--working-dir",
        ".",
        "--runtime-env-json",
        json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"} | env}),
        "--",
        *entry,
    ]
    return subprocess.Popen(command, cwd=ROOT, env=head.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_job_with_two_workers_and_two_ranks_runs_to_its_report(head: Head, tmp_path: Path) -> None:
    more = ("rollout.workers=2", "learner.ranks=2", "learner.zero_stage=2")
    said, _ = submit(head, tmp_path, "job-whole", *SMALL, *more).communicate(timeout=900)
    assert "succeeded" in said, said
    ended = Ended(status=0, output=said, folder=tmp_path / "job-whole")
    assert ended.summary["finished"] == "completed"
    assert ended.summary["steps"] == 3
    assert ended.series("rollout/workers") == [2, 2, 2]
    assert ended.summary["staleness"]["max"] <= 1
    assert (ended.folder / "report.html").is_file()


def test_ray_job_stop_ends_the_run_and_all_its_processes(head: Head, tmp_path: Path) -> None:
    process = submit(head, tmp_path, "job-stopped", *SMALL, "grpo.steps=1000", "eval.every=0", "meta_rm.enabled=false")
    metrics = tmp_path / "job-stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 900
    while not (metrics.exists() and '"learner/version": 2.0' in metrics.read_text()):
        assert time.monotonic() < deadline, "no step within 900 s"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.5)
    stop = [RAY, "job", "stop", "--address", head.dashboard, "job-stopped"]
    subprocess.run(stop, env=head.env, timeout=120, check=True, capture_output=True)
    process.communicate(timeout=120)
    ended = Ended(status=0, output="", folder=tmp_path / "job-stopped")
    deadline = time.monotonic() + 120
    while mentioning(str(ended.folder)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not mentioning(str(ended.folder))
    # Ray signals all processes of the job at once, the embedded server too: whether the driver first sees its own signal
    # or the death of an actor is a race. Either way it ends with a summary, and nothing is left.
    assert ended.summary["finished"] in {"stopped", "failed"}
