"""Bad input is refused before anything starts: one clear line, exit status 2, and no process."""

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from buffer.server import EmbeddedServer
from buffer.streams import Address, connect, in_use, setup
from configs.load import dump, load, presets
from configs.schema import Config
from launch import run as entry
from launch.driver import pipeline
from launch.monitoring.console import ProgressDisplay
from launch.setup import places
from launch.setup.model_files import SMOLLM2
from launch.setup.run_folder import lock_run_folder
from tests.launch.whole_run import mentioning

SMALL = ("data.train=tiny:1:30", "data.heldout=tinyheld:2:5:2")
FEW = ("data.train=tiny:1:200", "data.heldout=tinyheld:2:24:2")  # the preset's 6,000 are made anew in each process
GOOD = {"id": "a", "prompt": "q", "responses": ["x", "y"], "preferred": 1}


def rows(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return file


def refused(capsys: pytest.CaptureFixture[str], where: Path, *overrides: str, config: str = "tiny") -> str:
    """Start a run that is refused. Returns the error; checks that no process is left."""
    few = FEW if config == "tiny" else ()
    status = entry.main(["--config", config, f"run.dir={where / 'runs'}", "run.id=x", *few, *overrides])
    output = capsys.readouterr().err
    assert status == 2, output
    assert "Traceback" not in output
    assert not mentioning(str(where / "runs"))
    return output


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"id": "b", "prompt": ', r"bad.jsonl:2.*JSON"),
        ({**GOOD, "id": "b", "preferred": 2}, r"bad.jsonl:2.*preferred"),
        ({**GOOD, "id": "b", "preferred": [0, 1]}, r"bad.jsonl:2.*preferred"),
        ({**GOOD, "id": "b", "responses": []}, r"bad.jsonl:2.*responses"),
        ({**GOOD, "id": "b", "responses": ["x", "  "]}, r"bad.jsonl:2.*responses"),
        ({**GOOD, "id": "b", "responses": "x"}, r"bad.jsonl:2.*responses"),
        ({**GOOD, "id": "b", "prompt": 7}, r"bad.jsonl:2.*prompt"),
        ({"id": "b", "responses": ["x", "y"], "preferred": 0}, r"bad.jsonl:2.*prompt"),
        (GOOD, r"bad.jsonl:2.*'a' was used"),
        ("[]", r"bad.jsonl:2"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(
    row: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    file = rows(tmp_path / "bad.jsonl", GOOD, row)
    assert re.search(message, refused(capsys, tmp_path, f"data.train={file}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train=nowhere.jsonl"], "nowhere.jsonl"),
        (["data.heldout=hf:no body"], "hf:no body: no name of a set"),
        (["data.train=tiny:1"], "tiny:<seed>:<count>"),
        (
            ["data.train=tiny:1:50", "data.heldout=tiny:1:50"],
            "data.heldout: 50 of 50 preferences stand in data.train too, by content",
        ),
        (["model.path=./no-such-model"], "no config.json"),
        (["model.path=gpt5"], "neither a folder, nor owner/name"),
        (["model.path=owner/name"], "not on this disk"),
        (["model.context=4096", "learner.micro_tokens=8192", "meta_rm.micro_tokens=8192"], "over the model's own limit"),
        (["rollout.kv_cache_mb=400000"], "all processes on this machine: 422.3 GB are planned, and"),
        (["model.context=80", "rollout.max_new_tokens=64"], "prompt fits in 16 tokens; raise model.context"),
        (["grpo.lr=quick"], "grpo.lr"),
        (["rollout.wrokers=2"], "did you mean rollout.workers?"),
        (["redis.url=redis://127.0.0.1:1"], "127.0.0.1:1"),
        (["redis.url=http://127.0.0.1"], "expected redis://, rediss:// or unix://"),
        (["cluster.address=127.0.0.1:1"], "cluster.address: nothing listens at 127.0.0.1:1"),
        (["cluster.address=head"], "expected auto or HOST:PORT"),
        (["cluster.address=ray://127.0.0.1:1"], "a run's driver lives in the cluster"),
        (["cold_start.samples=1"], "a lone right judgement counts as too easy"),
        (["cold_start.samples=0", "cold_start.hinted=false"], "nothing would be sampled; set one of them"),
        (["cold_start.general=[nowhere.jsonl]"], "nowhere.jsonl"),
        (
            ["prompts.principles=false", "prompts.template_path=mine.txt"],
            "with prompts.template_path, edit that template instead",
        ),
        (["eval.votes=[1,8,4]"], "give each k once, in ascending order"),
        (["eval.votes=[1,4,4]"], "give each k once, in ascending order"),
        (["data.train=tiny:1:1"], "give two preferences at least"),
        (["cold_start.samples=0", "data.train=tiny:1:9", "grpo.steps=1", "meta_rm.batch=72"], "the meta-RM might take no step"),
    ],
)
def test_what_cannot_work_is_refused(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, tmp_path, "waits.server_s=2.0", "tracking.mode=disabled", *overrides)


def test_without_a_place_for_temporary_or_cached_files_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SCRATCH_ROOTS", ("/proc", "/proc/self", "/no-such-folder"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/a/long/path/which/a/batch/system/has/made")
    assert "no folder for temporary files (/a/long" in refused(capsys, tmp_path, *SMALL)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    assert "XDG_CACHE_HOME=/proc/cache cannot be written" in refused(capsys, tmp_path, *SMALL)
    assert not (tmp_path / "runs").exists()


def test_a_wrong_password_is_refused_and_not_shown(
    server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "unix://:wrong-word@" + server.url.rpartition("@")[2]
    output = refused(capsys, tmp_path, f"redis.url={url}", "tracking.mode=disabled")
    assert "refuses the password" in output
    assert "wrong-word" not in output
    assert not any(
        "wrong-word" in file.read_text(errors="replace") for file in (tmp_path / "runs").rglob("*") if file.is_file()
    )


def test_something_else_that_listens_there_is_no_redis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        output = refused(
            capsys, tmp_path, f"redis.url=redis://127.0.0.1:{port}", "waits.server_s=1.0", "tracking.mode=disabled"
        )
    assert str(port) in output


@pytest.mark.slow
def test_streams_of_a_run_of_the_same_name_are_left_alone(
    server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(Address(server.url, "x.cold-start")) as client:  # it samples
        setup(client, "x.cold-start", meta_rm=False)
        output = refused(capsys, tmp_path, f"redis.url={server.url}", "tracking.mode=disabled")
        assert "run.id: x is in use on the Redis server; choose another run.id" in output
        assert in_use(client, "x.cold-start")
    assert not (tmp_path / "runs" / "x" / "summary.json").exists()


def test_an_existing_run_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    assert "choose another run.id" in refused(capsys, tmp_path)


def test_a_run_that_goes_on_is_neither_taken_over_nor_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = interrupted(tmp_path, "run.id=x")
    folder = tmp_path / "runs" / "x"
    driver = lock_run_folder(folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for started in (["--resume", str(folder)], ["--config", str(folder / "config.yaml")]):
        assert entry.main(started) == 2
        assert "the run is going on under another driver" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    os.close(driver)
    os.close(lock_run_folder(folder))
    assert load(folder / "config.yaml") == config


def test_a_run_that_would_go_on_is_shown_and_not_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path, "run.id=x", "grpo.steps=77")
    folder = tmp_path / "runs" / "x"
    assert entry.main(["--resume", str(folder), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "steps: 77" in output
    assert "77 optimiser steps" in output
    assert not (folder / "driver.lock").exists()


def interrupted(where: Path, *overrides: str) -> Config:
    """The folder of a run that ended in its cold start, as such a run leaves it; its config."""
    config = load("tiny", [*SMALL, f"run.dir={where / 'runs'}", *overrides])
    folder = pipeline.Pipeline(config, preset="tiny", progress=ProgressDisplay(1, 0)).folder
    (folder / "config.yaml").write_text(dump(config))
    (folder / "cold_start").mkdir()
    (folder / "cold_start" / "sampled.jsonl").write_text("{}\n")
    return config


def test_an_interrupted_cold_start_is_taken_up_again(tmp_path: Path) -> None:
    config = interrupted(tmp_path, "run.id=x")
    again = pipeline.Pipeline(config, preset="tiny", progress=ProgressDisplay(1, 0))
    assert again.folder == tmp_path / "runs" / "x"
    assert (again.folder / "cold_start" / "sampled.jsonl").read_text() == "{}\n"


def test_an_interrupted_run_that_was_given_no_id_is_taken_up_by_its_folders_name(tmp_path: Path) -> None:
    config = interrupted(tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert config.run.id == ""
    again = load("tiny", [*SMALL, f"run.dir={tmp_path / 'runs'}", f"run.id={folder.name}"])
    assert pipeline.Pipeline(again, preset="tiny", progress=ProgressDisplay(1, 0)).folder == folder


@pytest.mark.parametrize("override", ["run.seed=1", "cold_start.samples=4", "grpo.lr=1e-4"])
def test_an_interrupted_cold_start_is_not_taken_up_with_another_config(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, "run.id=x")
    assert "was begun with another config; give that one, or choose another run.id" in refused(
        capsys, tmp_path, *SMALL, override
    )


def test_a_taken_id_is_refused_before_the_data_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    said = refused(capsys, tmp_path, f"data.train=[{tmp_path / 'not-there.jsonl'}]")
    assert "x exists; choose another run.id, remove the folder, or go on with it by --resume" in said


def test_a_run_that_went_on_to_train_is_not_taken_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path, "run.id=x")
    (tmp_path / "runs" / "x" / "checkpoints").mkdir()
    assert "x exists; choose another run.id" in refused(capsys, tmp_path, *SMALL)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": ', r"bad.jsonl:2.*JSON"),
        ({"prompt": "q"}, r"bad.jsonl:2.*'completion'"),
        ({"prompt": "q", "completion": " "}, r"bad.jsonl:2.*'completion'"),
        ({"prompt": 7, "completion": "a"}, r"bad.jsonl:2.*'prompt'"),
        ({"messages": [{"role": "user", "content": "q"}]}, r"bad.jsonl:2.*'messages'"),
    ],
)
def test_bad_general_data_is_named_by_line_and_field(
    row: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rows(tmp_path / "bad.jsonl", {"prompt": "q", "completion": "a"}, row)
    assert re.search(message, refused(capsys, tmp_path, *SMALL, f"cold_start.general=[{file}]"))


def test_a_template_without_a_place_for_hints_cannot_sample_hinted_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, single = tmp_path / "own.txt", tmp_path / "own_single.txt"
    for file in (own, single):
        file.write_text("Judge.\n{{query}}\n{{responses}}\n{{hint}}\nScores: {{scores}}\n")
    overrides = [*SMALL, f"prompts.template_path={own}", "cold_start.enabled=true"]
    config = load("tiny", [*overrides, f"run.dir={tmp_path / 'good'}"])
    pipeline.Pipeline(config, preset="tiny", progress=ProgressDisplay(1, 0))
    for file in (own, single):  # either template alone may lack it
        whole = file.read_text()
        file.write_text(whole.replace("{{hint}}\n", ""))
        assert "has no {{hint}}; add it, alone on a line, for hints" in refused(capsys, tmp_path, *overrides)
        without = load("tiny", [*overrides, "cold_start.hinted=false", f"run.dir={tmp_path / file.stem}"])
        pipeline.Pipeline(without, preset="tiny", progress=ProgressDisplay(1, 0))
        file.write_text(whole)


def test_a_template_that_one_row_in_many_needs_is_missed_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a sample of the prompts is rendered, and the row is not in it."""
    own = tmp_path / "own.txt"
    own.write_text("Judge.\n{{query}}\n{{responses}}\nScores: {{scores}}\n")
    pairs = [{**GOOD, "id": f"p{i}"} for i in range(300)]
    singles = [{"id": f"s{i}", "prompt": f"q{i}", "responses": ["x"], "scores": [i]} for i in range(2)]
    file = rows(tmp_path / "mixed.jsonl", *pairs, *singles)
    overrides = [
        f"data.train={file}",
        "data.heldout=tinyheld:2:5:2",
        f"prompts.template_path={own}",
        "cold_start.enabled=false",
    ]
    assert "no template for n = 1 scored 0 or 1; add own_single.txt beside it" in refused(capsys, tmp_path, *overrides)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    assert "run.dir" in refused(capsys, tmp_path)


def test_a_dry_run_prints_the_config_and_the_plan_and_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for preset in (name for name in presets() if load(name).model.path != SMOLLM2):
        assert entry.main(["--config", preset, "--dry-run"]) == 0
        output = capsys.readouterr().out
        for expected in ("grpo:", "process ", "device ", "memory ", "cache ", "steps ", "staleness "):
            assert expected in output
