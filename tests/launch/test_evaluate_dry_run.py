"""`--dry-run`: the data, what stands, what would be asked; no server is asked, nothing is written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.evaluate import main
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer

Start = Callable[..., int]


@pytest.fixture
def started(judge_server: FakeServer, tmp_path: Path) -> Start:
    judge_server.reply = reply
    data = rows(tmp_path / "data.jsonl", *ROWS, {"prompt": "q", "responses": ["x", "y"], "scores": [4, 4]})
    usual = ["--endpoint", judge_server.url, "--model", "judge", "--data", data, "--k", "2", "--out", str(tmp_path / "out")]
    return lambda *more: main([*usual, "tracking.mode=disabled", *more])


def test_a_dry_run_says_what_would_be_asked(
    started: Start, judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert (judge_server.asked, (tmp_path / "out").exists()) == ([], False)
    assert said[:2] == ["skipped    1 x two best labels", f"           first two best labels: {tmp_path / 'data.jsonl'}:7"]
    assert "used       6 preferences" in said
    assert "responses  2 x n = 1, 3 x n = 2, 1 x n = 3" in said
    assert "subsets    easy 2, single 2, trap 2" in said
    assert f"stands     0 of 6 preferences are judged already in {tmp_path / 'out'}" in said
    (asks,) = [line for line in said if line.startswith("asks")]
    assert started() == 0
    spent = len(judge_server.asked)
    capsys.readouterr()
    assert asks == f"asks       10 greedy judgements and 12 votes, up to 1,024 tokens each, in {spent} requests"
    assert any(line.startswith("tokens     about ") for line in said)
    prompt = said.index(next(line for line in said if line.startswith("prompt     the first, of ")))
    assert any("[The Begin of Response 1]" in line for line in said[prompt:])
    assert started("--dry-run", "--k", "4") == 0
    later = capsys.readouterr().out
    assert f"stands     0 of 6 preferences are judged already in {tmp_path / 'out'}" in later
    assert "asks       0 greedy judgements and 12 votes, " in later, "beside those that stand"
    assert started("--dry-run") == 0
    assert "stands     6 of 6" in (whole := capsys.readouterr().out)
    assert "asks " not in whole


def test_a_dry_run_knows_of_early_stopping(started: Start, capsys: pytest.CaptureFixture[str]) -> None:
    early = ("--k", "8", "--early-stop")
    assert started("--dry-run", *early) == 0
    asks = "asks       10 greedy judgements and up to 48 votes, up to 1,024 tokens each, in rounds"
    assert asks in capsys.readouterr().out.splitlines()
    assert started(*early) == 0
    assert "were spared" in capsys.readouterr().out
    assert started("--dry-run", *early) == 0
    assert "stands     6 of 6" in (whole := capsys.readouterr().out)
    assert "asks " not in whole


def test_a_dry_run_counts_the_tokens_of_a_model_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = {"prompt": "red fox " * 900, "responses": ["a", "b"], "preferred": 0}
    data = rows(tmp_path / "data.jsonl", {"prompt": "red fox", "responses": ["a", "b"], "preferred": 0}, long)
    options = ["--config", "tiny", "--model", "tiny", "--data", data, "--k", "0", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*options, "tracking.mode=disabled"]) == 0
    (tokens,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tokens")]
    assert tokens.endswith("2 are over the limit of 192")
    assert " of 4 prompts" in tokens
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_scalar_reward_model(
    started: Start, judge_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--scalar", "--k", "0", "--dry-run") == 0
    assert "asks       11 scores, one for each response" in capsys.readouterr().out
    assert judge_server.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--data", "none.jsonl"], "none.jsonl: no such file"), (["--endpoint", "here"], "this is no address")],
)
def test_what_is_wrong_is_said_as_by_an_evaluation(
    started: Start, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert started("--dry-run", *options) == 2
    assert message in capsys.readouterr().err
