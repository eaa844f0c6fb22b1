"""The end of a run that had begun, with a fake cluster: its exit status, its summary and the stack of what failed."""

from pathlib import Path
from typing import Any

import pytest

from buffer import files
from buffer.files import LinkError
from buffer.json_text import JsonError
from buffer.streams import ServerError
from configs.load import ConfigError
from launch.cli import exit_status
from launch.cluster.failures import ActorLost, FinalError, RunFailed
from launch.driver.pipeline import Pipeline
from learner.checkpoint import CheckpointError
from tests.launch.driver.small_pipeline import Begin, FakeCluster, ended, summary


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("none of its 2 checkpoints can be used: restore one from a copy, or start a new run"),
        ServerError("run x: the Redis server went away and did not come back: start it again and resume the run"),
        ConfigError("votes/after.jsonl was begun with another seed: use another folder, or remove the file"),
        TimeoutError("the driver waited 9 s for optimiser step 3 (waits.progress_s)"),
        ActorLost("the actor died"),
        FinalError("ValueError: the model cannot be read"),
        RunFailed("the reward actor failed 6 times in a row"),
        JsonError("votes/after.jsonl:3: not JSON (x); remove the line, and its row is computed again"),
        LinkError("metrics.jsonl is a link, and a run's files are not written through links: remove it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_run_that_had_begun_has_failed_whatever_ended_it(
    error: Exception, cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job system tries again after a 1, and not after a 2: the input could be used."""
    run = begin()
    assert ended(run, error) == 1
    assert capsys.readouterr().err == f"failed: {error}\n"
    assert (summary(run)["finished"], summary(run)["error"]) == ("failed", str(error))
    assert cluster.closed
    assert (run.folder / "report.html").is_file()


def test_the_stack_of_the_actor_that_a_run_failed_with_is_in_its_folder(
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    run = begin()
    failed = RunFailed("the GRPO learner failed: ValueError: no such weight")
    failed.__cause__ = FinalError(
        "ValueError: no such weight", details="ray::GRPOLearner.step()\n  Bearer hf_sesame\nValueError: no such"
    )
    assert ended(run, failed) == 1
    assert (run.folder / "failure.txt").read_text() == "ray::GRPOLearner.step()\n  Bearer ***\nValueError: no such\n"
    output = capsys.readouterr()
    assert f"details    {run.folder / 'failure.txt'}" in output.out
    assert output.err == "failed: the GRPO learner failed: ValueError: no such weight\n"


FULL = OSError(28, "No space left on device")
PUT_RIGHT = "No space left on device; put that right and resume the run"


def fill_disk(run: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let no whole file be written from here on. Returns the summaries that the tracker is given."""
    tracked: list[Any] = []

    def refuse(path: Path, content: str) -> None:
        raise FULL

    monkeypatch.setattr(files, "write", refuse)
    monkeypatch.setattr(run._tracker, "finish", tracked.append)
    return tracked


def test_a_disk_that_is_full_is_a_failure_and_the_tracker_ends(
    cluster: FakeCluster, begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin()

    def train() -> int:
        with run:
            tracked.append(fill_disk(run, monkeypatch))
            raise FULL

    tracked: list[list[Any]] = []
    assert exit_status(train) == 1
    output = capsys.readouterr()
    assert output.err == f"failed: the driver met an error of the system at {run.folder}: {PUT_RIGHT}\n"
    assert f"note       {run.folder / 'summary.json'} cannot be written: {PUT_RIGHT}" in output.out
    assert f"note       {run.folder / 'failure.txt'} cannot be written: {PUT_RIGHT}" in output.out
    assert "details" not in output.out
    assert "report     there is none: " in output.out
    ((whole,),) = tracked
    assert (whole["finished"], whole["error"].split(":")[-1]) == ("failed", f" {PUT_RIGHT}")
    assert cluster.closed


def test_an_error_of_the_system_leaves_the_stack_of_the_driver(cluster: FakeCluster, begin: Begin) -> None:
    run = begin()
    assert ended(run, FULL) == 1
    assert "in train\n" in (run.folder / "failure.txt").read_text()


def test_a_run_without_a_summary_has_not_ended_well(
    cluster: FakeCluster, begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin()

    def train() -> int:
        with run:
            fill_disk(run, monkeypatch)
        return 0

    assert exit_status(train) == 1
    assert capsys.readouterr().err == f"failed: {run.folder / 'summary.json'} cannot be written: {PUT_RIGHT}\n"


def test_before_it_has_begun_too_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def start() -> int:
        raise FULL

    assert exit_status(start, remedy="; start it again") == 1
    assert capsys.readouterr().err == f"failed: {FULL}; start it again\n"


def test_a_server_that_is_not_there_at_the_start_is_input_that_cannot_be_used(
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.refuses = ServerError("Redis at redis://nowhere:1 is not reachable: start the server or correct redis.url")
    run = begin()
    assert ended(run, None) == 2
    assert capsys.readouterr().err.startswith("error: Redis at redis://nowhere:1")
    assert not (run.folder / "summary.json").exists()
