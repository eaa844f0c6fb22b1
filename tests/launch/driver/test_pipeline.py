"""A run's beginning and its end, with a fake cluster: what a refused driver leaves alone, what is ended whatever happens, and
what the exit status says."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from buffer.files import LinkError
from buffer.json_text import JsonError
from buffer.server import EmbeddedServer
from buffer.streams import Address, ServerError
from configs.load import ConfigError, dump, load
from configs.schema import Config
from launch.cli import exit_status
from launch.cluster.failures import ActorLost, FinalError, RunFailed
from launch.driver import pipeline, run_end
from launch.driver.pipeline import Pipeline
from launch.setup.run_folder import lock_run_folder
from learner import checkpoint
from learner.checkpoint import CheckpointError


class FakeCluster:
    """In place of Ray's; remembers whether it is open."""

    def __init__(self, url: str) -> None:
        self._url, self.entered, self.closed = url, False, False
        self.refuses: Exception | None = None

    def __call__(self, config: Config, *, run_id: str, folder: Path, model: str, gpus: int, continued: bool) -> Self:
        self._run_id = run_id
        return self

    def __enter__(self) -> Self:
        if self.refuses:
            raise self.refuses
        self.entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def address(self) -> Address:
        return Address(self._url, self._run_id)

    def require_shared_folder(self) -> None:
        """It has one node."""


@pytest.fixture
def cluster(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    fake = FakeCluster(server.url)
    monkeypatch.setattr(pipeline, "Cluster", fake)
    return fake


Begin = Callable[..., Pipeline]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Makes the pipeline of a small run, or of one that is resumed."""

    def make(*, resume: bool = False) -> Pipeline:
        small = ["data.train=tiny:1:20", "data.heldout=tinyheld:2:4:2", "tracking.mode=disabled"]
        config = load("tiny", [*small, f"run.dir={tmp_path}", f"run.id={tmp_path.name}"])
        if resume:
            (tmp_path / tmp_path.name / "cold_start").mkdir(parents=True, exist_ok=True)
            (tmp_path / tmp_path.name / "config.yaml").write_text(dump(config))
        return Pipeline(config, preset="tiny", resume=resume)

    return make


def test_a_second_driver_is_refused_and_writes_nothing(tmp_path: Path, cluster: FakeCluster, begin: Begin) -> None:
    folder = tmp_path / tmp_path.name
    folder.mkdir()
    torn = '{"when": "before"'  # the first driver is in the middle of a line
    (folder / "evaluations.jsonl").write_text(torn)
    held = lock_run_folder(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ConfigError, match="another driver"):
        begin(resume=True).__enter__()
    os.close(held)
    assert (folder / "evaluations.jsonl").read_text() == torn
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in before}
    assert after == before
    assert not cluster.entered


def test_a_signal_while_it_begins_leaves_no_cluster_open_and_no_lock(
    tmp_path: Path, cluster: FakeCluster, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    run = begin()
    monkeypatch.setattr(pipeline, "ProgressDisplay", interrupted)  # the last thing that is begun, but one
    with pytest.raises(KeyboardInterrupt):
        run.__enter__()
    assert cluster.entered
    assert cluster.closed
    os.close(lock_run_folder(run.folder))  # nobody holds it


def ended(run: Pipeline, error: BaseException | None) -> int:
    """The exit status of a run whose stages end with this error."""

    def train() -> int:
        with run:
            if error is not None:
                raise error
        return 0

    return exit_status(train)


def summary(run: Pipeline) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run.folder / "summary.json").read_text())
    return values


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
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin()
    failed = RunFailed("the GRPO learner failed: ValueError: no such weight")
    failed.__cause__ = FinalError(
        "ValueError: no such weight", details="ray::GRPOLearner.step()\n  File x\nValueError: no such"
    )
    assert ended(run, failed) == 1
    assert (run.folder / "failure.txt").read_text() == f"{failed.__cause__.details}\n"
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

    monkeypatch.setattr(run_end.files, "write", refuse)
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


def test_a_signal_stops_it(cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin()
    assert ended(run, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert summary(run)["finished"] == "stopped"


def test_an_error_of_the_program_stays_one(cluster: FakeCluster, begin: Begin) -> None:
    run = begin()
    with pytest.raises(KeyError, match="oops"):
        ended(run, KeyError("oops"))
    assert summary(run)["finished"] == "failed"
    assert cluster.closed


def test_votes_without_the_meta_rm_that_should_choose_them_are_no_silent_result(cluster: FakeCluster, begin: Begin) -> None:
    run = begin()
    with pytest.raises(RunFailed, match=r"no checkpoint of the meta-RM in .*meta-rm, .*is run.dir shared by all nodes"), run:
        run.count_votes()


@pytest.mark.parametrize(("version", "examples", "guides"), [(0, 0, False), (1, 0, False), (1, 16, True)])
def test_a_meta_rm_that_took_no_step_guides_no_votes(
    version: int,
    examples: int,
    guides: bool,
    cluster: FakeCluster,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = begin()
    folder = run.folder / "checkpoints" / "meta-rm"
    asked: list[Path | None] = []
    with run:
        checkpoint.begin(folder, version)
        checkpoint.commit(folder, checkpoint.Record(version=version, entries=(), ranks=1, zero_stage=1), keep=1)
        run._results.training.meta_examples = examples
        monkeypatch.setattr(run._judgements, "count", lambda _, model: asked.append(model) or {})
        run.count_votes()
    assert [model is not None for model in asked] == [guides]
    noted = "the meta-RM took no step, as fewer than meta_rm.batch = 64 completions came together" in capsys.readouterr().out
    assert noted is not guides


def test_it_records_its_inputs_before_its_config_and_says_when_nobody_can_tell(
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = "note       the run began before its data, template and model were recorded"
    with begin() as run:
        recorded = (run.folder / "inputs.json").read_text()
    assert unknown not in capsys.readouterr().out
    assert [each["leaf"] for each in json.loads(recorded)] == ["data.train", "data.heldout", "prompts", "model.path"]
    (run.folder / "inputs.json").unlink()
    for expected in (True, False):  # the second try finds what the first has recorded
        with begin(resume=True):
            assert (unknown in capsys.readouterr().out) is expected
        assert (run.folder / "inputs.json").read_text() == recorded


def test_a_report_that_cannot_be_written_changes_no_exit_status(
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin()
    (run.folder / "report.html").mkdir()
    assert ended(run, None) == 0
    assert "report     there is none: " in capsys.readouterr().out
    assert summary(run)["finished"] == "completed"
