"""A scalar reward model as a user evaluates it, served by a fake, and beside a judge in one table; a whole one of a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.evaluate import main
from launch.judging import endpoint_tries, scalar_scores
from tests import random_models
from tests.launch.evaluation import ROWS, meta_rm, reply, rows
from tests.launch.judging.fake_server import FakeServer, Reply, failure, scored
from tests.launch.whole_run import evaluate_to_end, mentioning
from tests.learner.test_meta_scorer import trained

Start = Callable[..., int]


def good_first(body: dict[str, Any]) -> Reply:
    """What is called good is worth 1.5; a longer text is worth a little more."""
    answer = body["messages"][-1]["content"]
    return scored(1.5 * ("good" in answer) + 0.01 * len(answer))


@pytest.fixture
def started(judge_server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(endpoint_tries, "RETRY_S", 0.001)
    judge_server.paths["/classify"] = good_first
    data = rows(tmp_path / "data.jsonl", *ROWS)
    usual = ["--endpoint", judge_server.url, "--model", "judge", "--scalar", "--data", data, "--out", str(tmp_path / "rm")]
    return lambda *more: main([*usual, "tracking.mode=disabled", *more])


def figures(out: Path, subset: str = "overall") -> dict[str, Any]:
    return dict(json.loads((out / "table.json").read_text())["subsets"][subset]["figures"])


def test_a_scalar_reward_model_gets_the_figures_of_a_judge(
    started: Start, judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started() == 0
    said = capsys.readouterr().out
    assert "scored 6 of 6 preferences" in said
    found = figures(tmp_path / "rm")
    assert {name: found[name]["value"] for name in ("greedy", "both_orders", "auc_greedy", "picks_longest")} == {
        "greedy": 0.75,  # p3's label is at the bad one
        "both_orders": 0.75,
        "auc_greedy": 1.0,
        "picks_longest": 1.0,
    }
    shown_in_order = {"picks_first", "position_1", "position_2", "consistency", "parse_rate", "tokens"}
    assert not shown_in_order & found.keys(), "no response was shown before another"
    assert len(judge_server.asked) == 1 + 11, "a known chat, and each response once"
    page = (tmp_path / "rm" / "report.html").read_text()
    assert "scalar True" in page
    lines = (tmp_path / "rm" / "judge_outputs.jsonl").read_text().splitlines()
    assert {json.loads(line)["scores_chosen"] for line in lines} == {1.63, 0.09}


def test_what_stands_is_not_asked_again_and_what_failed_is(
    started: Start, judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(body: dict[str, Any]) -> Reply:
        return failure(400, "too long") if "q two" in str(body) else good_first(body)

    judge_server.paths["/classify"] = refuses
    assert started() == 1
    assert "1 of 6 preferences got no answer; the first, p2: " in capsys.readouterr().out
    judge_server.paths["/classify"], asked = good_first, len(judge_server.asked)
    assert started() == 0
    _, *others = judge_server.asked[asked:]
    assert len(others) == 2
    assert all("q two" in str(body) for body in others)
    judge_server.close()
    assert started() == 0
    assert "all 6 preferences stand already" in capsys.readouterr().out


@pytest.mark.parametrize(("by", "changed"), [(0.5, True), (0.001, False)])
def test_a_model_that_changed_under_its_name_is_said(
    started: Start, judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], by: float, changed: bool
) -> None:
    judge_server.paths["/classify"] = lambda body: failure(400, "too long") if "q two" in str(body) else good_first(body)
    assert started() == 1
    assert "known chat" not in capsys.readouterr().out
    judge_server.paths["/classify"] = lambda body: scored(good_first(body)[1]["data"][0]["probs"][0] + by)
    assert started() == 0
    said = "the served model scores a known chat 0.56 now, and 0.06 at its first start"
    assert (f"WARNING    {said}" in capsys.readouterr().out) == changed
    assert (said in (tmp_path / "rm" / "report.html").read_text()) == changed


def test_a_server_that_dies_keeps_what_it_scored(
    started: Start,
    judge_server: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scalar_scores, "WAVE", 2)
    judge_server.paths["/classify"] = lambda body: good_first(body) if len(judge_server.asked) <= 5 else failure(401, "revoked")
    assert started() == 1
    assert "scored 2 of 6 preferences, which are kept; then the model was gone: " in capsys.readouterr().err
    judge_server.paths["/classify"], asked = good_first, len(judge_server.asked)
    assert started() == 0
    assert len(judge_server.asked) - asked == 1 + 11 - 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--k", "1,2"), "--k: a scalar reward model gives a response the same score each time"),
        (("--early-stop",), "--early-stop: a scalar reward model casts no votes; leave it out"),
        (("--meta-rm", "./x"), "--meta-rm scores judgements, and a scalar reward model writes none; leave it out"),
        (("--endpoint", "", "--model", "tiny"), "--scalar: "),
        (("--data", "none.jsonl"), "none.jsonl: no such file"),
    ],
)
def test_what_has_no_sense_is_refused(
    started: Start, judge_server: FakeServer, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert started(*options) == 2
    assert message in capsys.readouterr().err
    assert judge_server.asked == []


def test_the_meta_rm_of_a_run_is_no_scalar_reward_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As older versions wrote them, without judge.json: their scores of responses would mean nothing."""
    folder, data = meta_rm(tmp_path / "meta-rm", version=3), rows(tmp_path / "data.jsonl", *ROWS)
    assert main(["--model", str(folder), "--data", data, "--out", str(tmp_path / "out"), "tracking.mode=disabled"]) == 2
    assert "is the meta-RM of a run, which scores judgements; name it as --meta-rm" in capsys.readouterr().err


def test_scores_and_judgements_are_not_mixed(
    started: Start, judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started() == 0
    judge_server.reply = reply
    data = str(tmp_path / "data.jsonl")
    usual = ["--endpoint", judge_server.url, "--model", "judge", "--data", data, "--out", str(tmp_path / "rm")]
    assert main([*usual, "--k", "0", "tracking.mode=disabled"]) == 2
    assert "judgements.jsonl was begun with another" in capsys.readouterr().err


@pytest.mark.full
def test_a_scalar_reward_model_of_a_folder_to_its_end(tmp_path: Path) -> None:
    """Found by its config.json. Its scores were compared with those of transformers in test_scalar_scorers.py."""
    folder = trained(tmp_path / "rm", random_models.make(tmp_path / "base", "llama"))
    data = rows(tmp_path / "data.jsonl", *ROWS)
    options = ("--model", str(folder), "--data", data, "--config", "tiny", "--out", str(tmp_path / "out"))
    said = evaluate_to_end(tmp_path, *options)
    assert "scored 6 of 6 preferences" in said
    scores = [
        json.loads(line)["samples"][0]["scores"]
        for line in (tmp_path / "out" / "judgements.jsonl").read_text().splitlines()[1:]
    ]
    assert [len(each) for each in sorted(scores, key=len)] == [1, 1, 2, 2, 2, 3]
    assert {"greedy", "auc_greedy"} <= figures(tmp_path / "out").keys()
    assert not mentioning(str(tmp_path / "out")), "no process outlives the evaluation"
    assert "all 6 preferences stand already" in evaluate_to_end(tmp_path, *options)
