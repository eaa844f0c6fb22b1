"""Evaluations side by side: a judge, another one, and a scalar reward model, on what all of them judged."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from configs.load import ConfigError
from launch.evaluate import main
from launch.judging.comparison import compare
from launch.judging.preference_values import VALUES
from tests.launch.evaluation import ROWS, SHOWN, reply, rows
from tests.launch.judging.fake_server import FakeServer, Reply, completion, scored

Evaluated = Callable[..., Path]


def contrary(body: dict[str, Any]) -> Reply:
    """2 for what is called good, else 9."""
    shown = SHOWN.findall(body["messages"][0]["content"])
    return completion(*[f"Scores: \\boxed{{{', '.join('2' if 'good' in each else '9' for each in shown)}}}"] * body["n"])


def by_length(body: dict[str, Any]) -> Reply:
    return scored(float(len(body["messages"][-1]["content"])))


@pytest.fixture
def evaluated(judge_server: FakeServer, tmp_path: Path) -> Evaluated:
    """Evaluates the fake server and returns the folder."""
    judge_server.reply, judge_server.paths["/classify"] = reply, by_length

    def to_end(name: str, *more: str, data: list[dict[str, Any]] = ROWS) -> Path:
        file = rows(tmp_path / f"{name}.jsonl", *data)
        usual = ["--endpoint", judge_server.url, "--model", "judge", "--data", file, "--out", str(tmp_path / name)]
        assert main([*usual, "tracking.mode=disabled", *more]) == 0
        return tmp_path / name

    return to_end


def test_a_judge_and_a_scalar_reward_model_stand_in_one_table(
    evaluated: Evaluated, judge_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = evaluated("judge", "--k", "2")
    judge_server.reply = contrary
    other = evaluated("contrary", "--k", "0", data=ROWS[1:])
    scalar = evaluated("scalar", "--scalar")
    capsys.readouterr()
    assert main(["--compare", str(judge), str(other), str(scalar)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["1", "judge,", "6", "preferences:", str(judge)]
    assert ["shared", "5", "preferences,"] in [line[:3] for line in lines]
    shown = {(line[0], line[1]): line[2:] for line in lines if len(line) > 5 and line[0] in "123" and line[1] != "judge,"}
    assert shown["1", "greedy"][0] == f"{100 * 2 / 3:.1f}"  # p2, p4 right; p3's label is at the bad one
    assert (shown["2", "greedy"][0], shown["2", "greedy"][4]) == (f"{100 / 3:.1f}", "-33.3")
    assert shown["3", "greedy"][4] == "0.0"
    assert (shown["1", "auc_greedy"][0], shown["2", "auc_greedy"][4]) == ("100.0", "-100.0")
    assert ("1", "vote@2") in shown
    assert ["trap", "50.0"] in [line[:2] for line in lines]


def test_differences_are_taken_preference_by_preference(evaluated: Evaluated, judge_server: FakeServer) -> None:
    """Against a few lines over the judgements of both; two that always agree differ by 0 to 0, whatever they get wrong."""
    first, again = evaluated("one", "--k", "0"), evaluated("two", "--k", "0")
    judge_server.reply = contrary
    third = evaluated("three", "--k", "0")
    found = compare([first, again, third])
    greedy = {each.folder: each for each in found.figures if each.name == "greedy"}
    same = greedy[str(again)].difference
    assert same is not None
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)

    def earned(folder: Path) -> dict[str, float]:
        labels = {row["id"]: row.get("preferred", 0) for row in ROWS if "scores" not in row}
        read = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()[1:]]
        best = {row["id"]: [s["scores"].index(max(s["scores"])) for s in row["samples"]] for row in read}
        return {name: fmean(place == labels[name] for place in best[name]) for name in labels}

    mine, other = earned(third), earned(first)
    gained = greedy[str(third)].difference
    assert gained is not None
    assert gained.value == pytest.approx(fmean(mine[name] - other[name] for name in mine))
    assert gained.low <= gained.value <= gained.high
    assert gained.rows == 4


def test_rows_are_found_by_what_they_say(evaluated: Evaluated) -> None:
    """Not by their ids: another file may number them otherwise, and give another question the same number."""
    first = evaluated("one", "--k", "0")
    others = [{**row, "id": f"{9 - place}"} for place, row in enumerate(ROWS)] + [{**ROWS[0], "prompt": "another"}]
    second = evaluated("two", "--k", "0", data=others)
    assert (compare([first, second]).shared, compare([first, second]).counts) == (6, [6, 7])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("", "--compare: name two folders or more"),
        ("none", "give the folder of an evaluation that came to its end"),
        ("old", f"has no {VALUES}; evaluate again with the same --out, which asks nothing"),
        ("apart", "no preference was judged in all of"),
        ("relabelled", "one question has two labels: 'p1' in .*one and 'p1' in .*relabelled; judge the same data"),
    ],
)
def test_what_cannot_be_compared_is_refused(evaluated: Evaluated, tmp_path: Path, second: str, message: str) -> None:
    folders = [evaluated("one", "--k", "0"), *([tmp_path / second] if second else [])]
    if second == "old":
        (evaluated("old", "--k", "0") / VALUES).unlink()
    if second == "apart":
        evaluated("apart", "--k", "0", data=[{**ROWS[0], "prompt": "another"}])
    if second == "relabelled":
        evaluated("relabelled", "--k", "0", data=[{**ROWS[0], "preferred": 1}])
    with pytest.raises(ConfigError, match=message):
        compare(folders)


def test_model_or_folders_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "x.jsonl"])
    assert "one of the arguments --model --compare is required" in capsys.readouterr().err
    assert main(["--model", "tiny"]) == 2
    assert "--data: name the preferences to judge" in capsys.readouterr().err
