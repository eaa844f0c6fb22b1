"""An evaluation that spares the votes that cannot change the best: the same accuracy of as many votes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.evaluate import main
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer


@pytest.fixture
def server(judge_server: FakeServer) -> FakeServer:
    judge_server.reply = reply
    return judge_server


def evaluated(server: FakeServer, folder: Path, *more: str) -> tuple[dict[str, Any], int]:
    """What was written, and how many votes were asked for."""
    data = rows(folder.parent / "data.jsonl", *ROWS)
    usual = ["--endpoint", server.url, "--model", "judge", "--data", data, "--out", str(folder), "tracking.mode=disabled"]
    server.asked.clear()
    assert main([*usual, *more]) == 0
    asked = sum(body["n"] for body in server.asked if body["temperature"] > 0)
    return json.loads((folder / "table.json").read_text()), asked


def test_the_accuracy_is_that_of_all_votes(server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, every = evaluated(server, tmp_path / "whole", "--k", "8")
    capsys.readouterr()
    early, asked = evaluated(server, tmp_path / "early", "--k", "8", "--early-stop")
    printed = capsys.readouterr().out
    assert every == 8 * len(ROWS) > asked
    spared = every - asked
    assert f"early stop {spared} of 48 votes ({spared / 48:.0%}) were spared: they could not change the best" in printed
    assert "judged 6 of 6 preferences, up to 8 votes each" in printed
    assert (early["answers"]["votes"], early["answers"]["spared"]) == (asked, spared)
    assert early["settings"]["early_stop"] is True
    assert f"{spared} of 48 votes" in (tmp_path / "early" / "report.html").read_text()
    for subset, row in early["subsets"].items():
        known = {name for name in row["figures"] if "@" in name}
        assert known <= {"vote@8", "vote@8_ties_lost", "votes_needed@8", "auc_vote@8"}
        assert {name: row["figures"][name] for name in known} == {
            name: whole["subsets"][subset]["figures"][name] for name in known
        }
    assert early["subsets"]["overall"]["figures"].keys() > {"vote@8", "auc_vote@8"}
    grown, rest = evaluated(server, tmp_path / "early", "--k", "8")
    assert rest == spared, "without it the others are asked for, beside those that stand"
    assert grown["subsets"] == whole["subsets"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--k", "1,8"], "--early-stop: votes are spared towards one number of them, and 2 are to be counted; give one, as"),
        (["--k", "0"], "towards one number of them, and 0 are to be counted"),
        (["--k", "8", "--meta-rm", "m"], "--early-stop: a meta-RM chooses among all votes, so none can be spared"),
    ],
)
def test_what_it_cannot_be_is_refused_before_anything_is_asked(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    data = rows(tmp_path / "data.jsonl", *ROWS)
    usual = ["--endpoint", server.url, "--model", "judge", "--data", data, "--out", str(tmp_path / "out"), "--early-stop"]
    assert main([*usual, *more]) == 2
    assert said in capsys.readouterr().err
    assert server.asked == []
