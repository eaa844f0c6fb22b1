"""The held-out judgements of a run on disk: greedy ones of all preferences, votes on some, each asked once; and counted."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load
from launch.judging import run_judgements
from launch.judging.protocol import JudgeRequest
from launch.judging.run_judgements import RunJudgements, Unread
from launch.judging.shown import Shown
from launch.judging.votes import judgements
from tests.launch.judging.fake_judge import PREFERENCES, FakeJudge, collect

NO_CLUSTER: Any = None  # no meta-RM scores here
NO_ACTORS: Any = None  # there is a fake judge in their place


@dataclass
class Run:
    """The judgements of a run under `folder`, judged by `judge`."""

    folder: Path
    judge: FakeJudge = field(default_factory=FakeJudge)
    notes: list[str] = field(default_factory=list)
    overrides: tuple[str, ...] = ("eval.votes=[1,2]", "eval.votes_limit=2", "tracking.samples=2")

    @property
    def judgements(self) -> RunJudgements:
        config = load("tiny", self.overrides)
        tokenizer: Any = None
        return RunJudgements(config, PREFERENCES, tokenizer=tokenizer, folder=self.folder, note=self.notes.append)

    def asked(self) -> tuple[int, int]:
        """How many greedy judgements and how many votes were asked for."""
        greedy = sum(request.samples for request in self.judge.asked if request.temperature == 0)
        return greedy, sum(request.samples for request in self.judge.asked) - greedy


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run(tmp_path / "votes")
    monkeypatch.setattr(run_judgements, "EngineJudge", lambda *arguments, **named: made.judge)
    return made


def test_votes_do_not_repeat_the_greedy_judgements_of_the_evaluation(run: Run) -> None:
    result, samples = run.judgements.evaluate(NO_ACTORS, "after", version=3)
    assert run.asked() == (9, 0)
    run.judgements.vote(NO_ACTORS, "after", version=3)
    assert run.asked() == (9, 2 * 2)
    assert (result.accuracy, result.rows, len(samples)) == (1.0, 5, 2)
    counted = run.judgements.count(NO_CLUSTER, None)
    assert counted.keys() == {"after"}
    assert (counted["after"].rows, counted["after"].figures["vote@2"].rows) == (2, 2)
    assert counted["after"].figures["greedy"].value == 1.0


def test_the_accuracy_of_a_run_is_the_greedy_figure_of_its_votes(run: Run) -> None:
    run.overrides = ("eval.votes=[1,2]", "eval.votes_limit=0")
    run.judge = FakeJudge(broken="answer 2")  # of three responses or more
    result, _ = run.judgements.evaluate(NO_ACTORS, "before", version=0)
    run.judgements.vote(NO_ACTORS, "before", version=0)
    figures = run.judgements.count(NO_CLUSTER, None)["before"].figures
    assert result.accuracy == figures["greedy"].value == 0.5
    assert result.parse_rate == figures["parse_rate"].value


def test_what_is_on_disk_is_not_judged_again(run: Run) -> None:
    first, _ = run.judgements.evaluate(NO_ACTORS, "after", version=3)
    run.judgements.vote(NO_ACTORS, "after", version=3)
    before = run.asked()
    assert run.judgements.evaluate(NO_ACTORS, "after", version=3)[0] == first
    run.judgements.vote(NO_ACTORS, "after", version=3)
    assert run.asked() == before


def test_one_order_is_asked_while_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[JudgeRequest] = []
    monkeypatch.setattr(run.judge, "begin", begun.extend, raising=False)
    run.overrides = ("eval.during_limit=4", "eval.expected_scores=true")
    run.judgements.begin_evaluation(NO_ACTORS, version=1)
    assert [(request.samples, request.temperature, request.alternatives) for request in begun] == [(1, 0.0, 0)] * 4


def test_an_interrupted_vote_goes_on(run: Run) -> None:
    run.overrides = ("eval.votes=[1,2]", "rollout.max_groups=1", "rollout.samples=2")  # a preference at a time
    run.judge = FakeJudge(waves=2 + 1)
    run.judgements.evaluate(NO_ACTORS, "after", version=3)
    with pytest.raises(KeyboardInterrupt):
        run.judgements.vote(NO_ACTORS, "after", version=3)
    voted = [row for row in lines(run.folder / "after.jsonl")[1:] if judgements(row, "vote")]
    run.judge = FakeJudge()
    run.judgements.vote(NO_ACTORS, "after", version=3)
    assert run.asked() == (0, 2 * (len(PREFERENCES) - len(voted)))
    assert run.judgements.count(NO_CLUSTER, None)["after"].rows == len(PREFERENCES)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_without_votes_a_run_is_evaluated_and_nothing_is_counted(run: Run) -> None:
    run.overrides = ("eval.votes=[]",)
    run.judgements.evaluate(NO_ACTORS, "before", version=0)
    run.judgements.vote(NO_ACTORS, "before", version=0)
    assert run.asked() == (9, 0)
    assert run.judgements.count(NO_CLUSTER, None) == {}


def test_a_policy_that_was_evaluated_only_is_not_counted(run: Run) -> None:
    run.judgements.evaluate(NO_ACTORS, "before", version=0)
    run.judgements.evaluate(NO_ACTORS, "after", version=3)
    run.judgements.vote(NO_ACTORS, "after", version=3)
    assert run.judgements.count(NO_CLUSTER, None).keys() == {"after"}


def counted(folder: Path, judge: FakeJudge) -> tuple[dict[str, Any], list[str]]:
    """The figures of votes that the judge casts, and what is noted."""
    notes: list[str] = []
    collect(folder, judge)
    (folder / "judgements.jsonl").rename(folder / "after.jsonl")
    config, tokenizer = load("tiny", ["eval.votes=[1,2]"]), NO_CLUSTER
    judgements = RunJudgements(config, PREFERENCES, tokenizer=tokenizer, folder=folder, note=notes.append)
    return dict(judgements.count(NO_CLUSTER, None)), notes


def test_each_policy_that_voted_is_counted(tmp_path: Path) -> None:
    figures, notes = counted(tmp_path, FakeJudge())
    assert figures.keys() == {"after"}
    assert figures["after"].rows == len(PREFERENCES)
    assert notes == []


def test_with_a_meta_rm_its_scorers_score_all_policies_and_are_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started, ended = list[str](), list[Any]()

    def start(cluster: Any, config: Any, model: str) -> tuple[list[str], str]:
        started.append(model)
        return ["one", "another"], "its tokenizer"

    def score(scorers: Any, tokenizer: Any, plan: Any, preferences: Any, rows: Any, **_: Any) -> dict[str, list[float]]:
        assert (scorers, tokenizer) == (["one", "another"], "its tokenizer")
        return {row["id"]: [0.5] * len(row["samples"]) for row in rows}

    monkeypatch.setattr(run_judgements, "start_scorers", start)
    monkeypatch.setattr(run_judgements, "meta_scores", score)
    for when, version in (("before", 0), ("after", 3)):
        run.judgements.evaluate(NO_ACTORS, when, version=version)
        run.judgements.vote(NO_ACTORS, when, version=version)
    cluster: Any = SimpleNamespace(end=ended.extend)
    counted = run.judgements.count(cluster, run.folder / "meta")
    assert counted.keys() == {"before", "after"}
    assert "guided@2" in counted["after"].figures
    assert (started, ended) == ([str(run.folder / "meta")], ["one", "another"])


def test_a_preference_without_votes_is_noted_and_left_out(tmp_path: Path) -> None:
    figures, notes = counted(tmp_path, FakeJudge(failing="answer 3"))  # of four responses, which one preference has
    assert figures["after"].rows == len(PREFERENCES) - 1
    assert notes == ["votes after: 1 of 5 preferences have none, and do not count: the server said no; ask again"]


def test_without_any_answer_there_are_no_figures(tmp_path: Path) -> None:
    figures, notes = counted(tmp_path, FakeJudge(failing=""))
    assert figures == {}
    assert len(notes) == 1


def test_what_is_shown_counts_preferences_over_waves_and_within_one() -> None:
    shown: list[tuple[int, int]] = []
    progress = Shown(lambda text, *, done=0, total=0: shown.append((done, total)), "judging the base", wave=256, total=400)
    progress.reached(0)
    progress.answered(256, 512)  # two orders of each preference
    progress.reached(256)
    progress.answered(72, 288)
    progress.reached(400)
    assert shown == [(0, 400), (128, 400), (256, 400), (292, 400), (400, 400)]


def test_a_judgement_that_training_would_not_read_is_found_on_disk(run: Run) -> None:
    run.judge = FakeJudge(broken="answer 2")
    assert run.judgements.unread("before") is None, "nothing is judged yet"
    run.judgements.evaluate(NO_ACTORS, "before", version=0)
    found = run.judgements.unread("before")
    assert isinstance(found, Unread)
    assert found.text
    assert found.reason


def test_the_trained_policy_is_compared_with_those_in_training_on_the_same_questions(run: Run) -> None:
    run.overrides = ("eval.during_limit=2", "eval.votes=[]")
    run.judgements.evaluate(NO_ACTORS, "after", version=3)
    last = run.judgements.as_during("after", version=3)
    assert (last.rows, last.accuracy, last.consistency) == (2, 1.0, None), "the first two, each in one order"
