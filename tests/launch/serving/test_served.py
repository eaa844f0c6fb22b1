"""What `launch/serve.py` refuses before it starts anything."""

import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from launch.judging.prepared_judge import PreparedJudge, prepare
from launch.serve import main
from launch.serving.served import Places, example, identity
from tests.launch.whole_run import LENGTHS

TINY = ["--model", "tiny", "--device", "cpu"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--k", "0"], "--k 0: give a number above 0"),
        (["--k", "65"], "--k 65: it is above --most-votes 64"),
        (["--http-workers", "0"], "--http-workers 0: give 1 or more"),
        (["--judges", "0"], "--judges 0: give 1 or more"),
        (["--deadline-s", "5"], "--collect-s 30: give less than --deadline-s 5"),
        (["--host", "0.0.0.0"], "give --keys FILE"),
        (["--keys", "nowhere"], "--keys: "),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_option(
    options: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, *options]) == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_a_port_that_is_taken_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([*TINY, "--port", str(taken.getsockname()[1])]) == 2
    assert "it is taken or not allowed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_judge_that_is_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--run", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def prepared(*overrides: str, model: str = "tiny", meta_rm: str = "", seed: int = 0) -> PreparedJudge:
    how = {"engine": "vllm", "device": "cpu", "seed": seed, "overrides": (*LENGTHS, *overrides)}
    return prepare(model, model="", meta_rm=meta_rm, **how)


def test_verdicts_of_one_judge_are_none_of_another_one(tmp_path: Path) -> None:
    """Two judges may use one folder one after the other, as two runs called `mine` do."""
    tiny = prepared()
    assert identity(tiny) == identity(prepared())
    copy = tmp_path / "tiny"
    shutil.copytree(tiny.found.model, copy)
    judges = [tiny, prepared(seed=1), prepared("eval.temperature=0.7"), prepared("rollout.max_new_tokens=65")]
    judges.append(prepared(model=str(copy)))
    names = [identity(each) for each in judges]
    os.utime(next(copy.glob("*.safetensors")), (1, 1))  # trained anew
    names.append(identity(judges[-1]))
    assert len(set(names)) == len(names)
    run = replace(tiny.found, run=tmp_path, model=str(copy), version=4)
    newer = replace(run, model=tiny.found.model, version=8)
    ids = [identity(replace(tiny, found=found)) for found in (run, newer, replace(run, meta_rm=str(tmp_path / "rm")))]
    assert ids[0] == ids[1] != ids[2], "a run that goes on is one judge; with a meta-RM it is another"


@pytest.mark.parametrize(
    ("host", "keys", "told"),
    [
        ("127.0.0.1", None, "curl 127.0.0.1:8000/v1/judge --json "),
        ("0.0.0.0", Path("keys"), "curl 127.0.0.1:8000/v1/judge -H 'Authorization: Bearer KEY' --json "),
        ("::1", None, "curl [::1]:8000/v1/judge --json "),
    ],
)
def test_the_example_can_be_pasted(host: str, keys: Path | None, told: str) -> None:
    places = Places(host=host, port=8000, keys=keys, state="", http_workers=1, judges=1)
    assert example(places).startswith(told)
