"""The console command: every name reaches its entry, and `spct judge` answers in the shell."""

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spct.command import ENTRIES, main, usage
from tests.launch.evaluation import reply
from tests.launch.judging.fake_server import FakeServer, completion
from tests.launch.whole_run import ROOT

GOOD, BAD = "a good answer", "a bad one"


@pytest.fixture
def ask(judge_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`spct judge` of the fake server; more arguments may be given."""
    judge_server.reply = reply
    monkeypatch.setattr(sys, "argv", ["spct"])
    return lambda *more: main(["judge", judge_server.url, "--model", "judge", *more])


def test_every_entry_of_launch_has_a_command() -> None:
    entries = {
        f"launch.{path.stem}" for path in (ROOT / "launch").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
    }
    assert entries == {module for module, _ in ENTRIES.values() if module.startswith("launch.")}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_reaches_its_entry(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["spct"])
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: spct {name} " in capsys.readouterr().out.replace("\n", " ")
    calls: list[list[str]] = []
    monkeypatch.setattr(importlib.import_module(ENTRIES[name][0]), "main", lambda argv: calls.append(argv) or 7)
    assert main([name, "--config", "tiny"]) == 7
    assert calls == [["--config", "tiny"]]


def test_an_unknown_command_names_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalaute"]) == 2
    assert "spct evalaute: no such command; choose one of train, cold-start, evaluate" in capsys.readouterr().err
    assert main([]) == main(["--help"]) == 0
    assert capsys.readouterr().out.count("measure a judge on labelled preferences") == 2


def test_one_question_in_the_shell(ask: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--query", "q", BAD, GOOD, "--votes", "1") == 0
    shown = capsys.readouterr().out
    lines = [
        "mean score  9.00  100% of the votes  response 2: a good answer",
        "mean score  2.00    0% of the votes  response 1: a bad one",
    ]
    assert shown.startswith("\n".join(lines))
    assert "judgement 1: scores 2, 9" in shown


def test_a_row_and_json(
    ask: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.dumps({"id": 1, "reference": None, "prompt": "q", "responses": [GOOD, BAD], "preferred": 0})
    (tmp_path / "row.json").write_text(row)
    assert ask("--row", str(tmp_path / "row.json"), "--json", "--votes", "2") == 0
    from_file = json.loads(capsys.readouterr().out)
    assert from_file["scores"] == [9, 2]
    assert len(from_file["judgements"]) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO(row))
    assert ask("--row", "-", "--json", "--votes", "2") == 0
    assert json.loads(capsys.readouterr().out) == from_file


def test_what_cannot_be_judged_has_a_status_of_its_own(
    ask: Callable[..., int], judge_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_server.reply = lambda body: completion(*["no scores"] * body["n"])
    assert ask("--query", "q", GOOD) == 1
    assert "not judged: none of 8 judgements could be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "give --query and its responses, or --row"),
        (["--query", "q"], "give one or more responses behind it"),
        (["--row", "r.json", GOOD], "its responses are in the row"),
        (["--row", "-"], "--row -: no JSON"),
        (["--query", "q", GOOD, "--set", "prompts.style=x"], "prompts.style"),
        (["--query", "q", GOOD, "--meta"], "this judge has no meta-RM"),
        (["--query", "q", GOOD, "--votes", "-1"], "votes = -1: give 0 for greedy judgements"),
        (["--row", "nowhere.json"], "--row nowhere.json: No such file or directory; check the path"),
        (["--row", "latin.json"], "--row latin.json: not UTF-8 at byte 1; write it anew"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_before_the_judge_is_opened(
    ask: Callable[..., int],
    judge_server: FakeServer,
    options: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.json").write_bytes(b'"\xfc"')
    monkeypatch.setattr(sys, "stdin", io.StringIO("?"))
    assert ask(*options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert why in error
    assert error.count("\n") == 1
    assert judge_server.keys == [], "nothing was asked, not even for its models"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": 5}, "query (prompt): int; give a text, or the messages of a conversation"),
        ({"prompt": []}, "query (prompt): no message"),
        ({"prompt": [{"role": "user"}]}, "query (prompt): message 1: give it role and content"),
        ({"prompt": ["q"]}, "query (prompt): message 1: give it role and content"),
        ({"prompt": {"role": "user", "content": "q"}}, "query (prompt): dict; give a text, or the messages"),
        ({"criteria": 5}, "criteria: int; give a list of texts"),
        ({"criteria": ["brief", 5]}, "criteria: number 2 is int; give a text"),
        ({"reference": 5}, "reference: int; give a text"),
        ({"responses": []}, "no responses; give at least one"),
        ({"responses": "a"}, "responses: a text; give a list of them"),
        ({"responses": ["a", None]}, "responses: number 2 is NoneType; give a text"),
        ({"id": [5]}, "id: list; give a text"),
    ],
)
def test_a_row_that_is_no_question_is_one_sentence_with_its_field(
    ask: Callable[..., int],
    judge_server: FakeServer,
    row: dict[str, object],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"prompt": "q", "responses": ["a"]} | row)))
    assert ask("--row", "-") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --row -: ")
    assert why in error
    assert error.count("\n") == 1
    assert judge_server.keys == []


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "spct", "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{usage()}\n"
