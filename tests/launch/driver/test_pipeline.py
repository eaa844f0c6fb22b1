"""A run's beginning, with a fake cluster: what a refused driver leaves alone, what is ended whatever happens."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from grm import tiny_world
from launch.cluster.failures import RunFailed
from launch.driver import pipeline, run_end
from launch.judging.heldout import Evaluation
from launch.page.run_page import write_report
from launch.setup.run_folder import lock_run_folder
from learner import checkpoint
from tests.launch.driver.small_pipeline import Begin, FakeCluster, ended, summary


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
    monkeypatch.setattr(pipeline, "ColdStart", interrupted)  # the last thing that is begun
    with pytest.raises(KeyboardInterrupt):
        run.__enter__()
    assert cluster.entered
    assert cluster.closed
    os.close(lock_run_folder(run.folder))  # nobody holds it


def test_a_signal_stops_it(cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin()
    assert ended(run, KeyboardInterrupt()) == 130
    output = capsys.readouterr()
    assert output.err == "stopped\n"
    assert output.out.splitlines()[-1] == f"go on      python launch/run.py --resume {run.folder}   (step 0 of 80)"
    assert summary(run)["finished"] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_end_is_written_leaves_summary_and_report(
    number: signal.Signals,
    cluster: FakeCluster,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, write = begin(), write_report

    def interrupted(folder: Path) -> Path:
        os.kill(os.getpid(), number)
        return write(folder)

    monkeypatch.setattr(run_end, "write_report", interrupted)
    assert ended(run, None) == 0
    assert summary(run)["finished"] == "completed"
    assert (run.folder / "report.html").is_file()
    output = capsys.readouterr().out
    assert "the run ends: its summary and report are being written\n" in output
    assert "go on" not in output


def test_a_resumed_run_keeps_the_name_of_its_preset(cluster: FakeCluster, begin: Begin) -> None:
    run = begin()
    assert ended(run, KeyboardInterrupt()) == 130
    state = run.folder / "run_state.json"
    assert json.loads(state.read_text())["preset"] == "tiny"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"preset": "smollm2-135m"}))
    again = begin(resume=True)
    assert ended(again, None) == 0
    assert summary(again)["preset"] == "smollm2-135m", "whatever the command line that resumes it tells"


def test_it_says_what_it_does_from_its_beginning(
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(begin(), None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "checking model, data and machine"
    assert lines[1].startswith("run        ")
    said = [line for line in lines if " " in line and not line.startswith(("run ", " "))]
    assert {"starting Redis and Ray", "ending the processes", "writing summary and report"} <= set(said)


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
        run._results.training.meta_completions = [examples]
        monkeypatch.setattr(run._judgements, "count", lambda _, model: asked.append(model) or {})
        run.count_votes()
    assert [model is not None for model in asked] == [guides]
    note = "the meta-RM took no step, as fewer than meta_rm.batch = 64 parsed completions came together"
    assert (note in capsys.readouterr().out) is not guides


def test_it_says_how_much_it_uses_of_each_source(
    cluster: FakeCluster, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin("data.train=[tiny:1:40:2, tiny:2:20:2]", "data.train_limit=30") as run:
        counts = [sum(p.question.id.startswith(f"tiny-train-{seed}-") for p in run._inputs.train) for seed in (1, 2)]
    assert sum(counts) == 30
    assert min(counts) > 0
    said = f"used       data.train: {counts[0]} of tiny:1:40:2, {counts[1]} of tiny:2:20:2\n"
    assert said in f"{capsys.readouterr().out}\n"


def test_judgements_of_a_teacher_need_no_engine_and_no_stream(
    tmp_path: Path, cluster: FakeCluster, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"permutation": [0, 1], "text": "Scores: \\boxed{9, 2}"}
    file = tmp_path / "taught.jsonl"
    ids = [p for p in tiny_world.preferences(seed=1, count=20) if len(p.question.responses) == 2]
    file.write_text("".join(json.dumps(row | {"preference": p.question.id}) + "\n" for p in ids))
    run = begin(f"cold_start.teacher={file}")
    monkeypatch.setattr(pipeline, "SamplingActors", None)
    monkeypatch.setattr(pipeline, "StageActors", None)
    with run:
        # the base was judged in an earlier try
        before = Evaluation(when="before", version=0, newest_version=0, rows=4, accuracy=0.5, auc=None, parse_rate=1.0)
        run._results.evaluations["before"] = before
        written: list[str] = []

        def tuned(cluster: object, counts: dict[str, Any], log: object, beside: dict[str, str]) -> dict[str, Any]:
            written.append(beside["README.md"])
            return counts

        monkeypatch.setattr(run._cold_start, "fine_tune", tuned)
        run.cold_start()
        assert "| base, greedy | 50.0% |  | 4 |" in written[0], "its model's card has what is known by now"
    examples = run._results.cold_start["examples"]
    right = sum(p.label == 0 for p in ids)
    assert 0 < right < len(ids)
    assert examples == {"plain": right, "hinted": 0, "general": 0, "too_long": 0}
    assert "cold_start.teacher" in [each["leaf"] for each in json.loads((run.folder / "inputs.json").read_text())]


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
