"""A run's beginning, with a fake cluster: what a refused driver leaves alone, what is ended whatever happens."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from grm import tiny_world
from launch.cluster.failures import RunFailed
from launch.driver import pipeline
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
    monkeypatch.setattr(pipeline, "ProgressDisplay", interrupted)  # the last thing that is begun, but one
    with pytest.raises(KeyboardInterrupt):
        run.__enter__()
    assert cluster.entered
    assert cluster.closed
    os.close(lock_run_folder(run.folder))  # nobody holds it


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
    note = "the meta-RM took no step, as fewer than meta_rm.batch = 64 parsed completions came together"
    assert (note in capsys.readouterr().out) is not guides


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
        run._results.evaluations["before"] = None  # type: ignore[assignment]  # the base was judged in an earlier try
        monkeypatch.setattr(run._cold_start, "fine_tune", lambda cluster, counts, log: counts)
        run.cold_start()
        run._results.evaluations.clear()
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
