"""The votes of a run on disk, counted: what has none is said and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.load import load
from launch.judging.run_votes import RunVotes
from tests.launch.judging.fake_judge import PREFERENCES, FakeJudge, collect

NO_CLUSTER: Any = None  # no meta-RM scores here


def counted(folder: Path, judge: FakeJudge) -> tuple[dict[str, Any], list[str]]:
    """The figures of votes that the judge casts, and what is said."""
    said: list[str] = []
    collect(folder, judge)
    (folder / "judgements.jsonl").rename(folder / "after.jsonl")
    config = load("tiny", ["eval.votes=[1,2]"])
    return dict(RunVotes(config, PREFERENCES, folder=folder, note=said.append).count(NO_CLUSTER, None)), said


def test_each_policy_that_was_polled_is_counted(tmp_path: Path) -> None:
    found, said = counted(tmp_path, FakeJudge())
    assert found.keys() == {"after"}
    assert found["after"].rows == len(PREFERENCES)
    assert said == []


def test_a_preference_without_votes_is_said_and_left_out(tmp_path: Path) -> None:
    found, said = counted(tmp_path, FakeJudge(failing="answer 3"))  # of four responses, which one preference has
    assert found["after"].rows == len(PREFERENCES) - 1
    assert said == ["votes after: 1 of 5 preferences have none, and do not count: the server said no; ask again"]


def test_where_nobody_answered_there_are_no_figures(tmp_path: Path) -> None:
    found, said = counted(tmp_path, FakeJudge(failing=""))
    assert found == {}
    assert len(said) == 1
