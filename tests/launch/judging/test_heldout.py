"""A held-out evaluation: counted as any judge is, and shown in the order in which its critique numbers the responses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grm.benchmarks import table
from grm.preferences import Preference, Question
from launch.cluster.failures import RunFailed
from launch.judging.heldout import Evaluation, evaluation
from launch.judging.samples import sample_judgements
from launch.judging.vote_items import items
from tests.launch.judging.fake_judge import PREFERENCES, FakeJudge, collect, preference

ABC = Preference(question=Question(id="p", query="q", responses=("a", "b", "c")), label=0, subset="s")
ONE = Preference(question=Question(id="one", query="q", responses=("a",)), label=1, subset="s")


def sample(permutation: tuple[int, ...], scores: tuple[int, ...] | None, **changes: Any) -> dict[str, Any]:
    """A judgement as it is on disk; scores in the preference's own order."""
    text = "Specific Criteria: brevity\nAnalysis: Response 2 is best.\nScores: "
    text += f"\\boxed{{{', '.join(str(scores[own]) for own in permutation)}}}" if scores else "none"
    base = {
        "kind": "greedy",
        "permutation": list(permutation),
        "text": text,
        "tokens": 10,
        "finish": "stop",
        "version": 4,
        "scores": list(scores) if scores else None,
        "failure": "" if scores else "no_box",
        "strict": bool(scores),
    }
    return base | changes


def row(p: Preference, *samples: dict[str, Any]) -> dict[str, Any]:
    return {"id": p.question.id, "question": "", "samples": list(samples)}


def test_it_is_the_greedy_figure_of_the_same_file_of_votes(tmp_path: Path) -> None:
    """One definition: the accuracy of a run is what `evaluate.py` calls greedy, whether votes follow in the file or not."""
    judged = [*PREFERENCES, preference("f", 2, query="a riddle")]
    rows = collect(tmp_path, FakeJudge(broken="riddle"), judged)
    result = evaluation(judged, rows, when="after", version=4)
    (*_, overall) = table(items(judged, rows, {}), ks=(1, 3))
    assert result.accuracy == overall.figures["greedy"].value == 0.8  # of five with n >= 2, one did not parse
    assert result.parse_rate == overall.figures["parse_rate"].value == 5 / 6
    assert result.rows == overall.rows == 6


def test_a_resumed_run_reads_its_rows_and_those_of_an_older_version(tmp_path: Path) -> None:
    result = evaluation(PREFERENCES, collect(tmp_path, FakeJudge()), when="before", version=0)
    assert "tokens" not in result.row()
    assert Evaluation.from_row(result.row()) == result
    assert Evaluation.from_row(result.row() | {"tokens": 12.5}) == result


def test_a_tie_for_the_best_is_split() -> None:
    rows = [row(ABC, sample((0, 1, 2), (5, 5, 1)))]
    assert evaluation([ABC], rows, when="before", version=0).accuracy == 0.5


def test_single_responses_have_an_auc_and_no_accuracy() -> None:
    wrong = Preference(question=Question(id="two", query="q", responses=("a",)), label=0, subset="s")
    result = evaluation([ONE, wrong], [row(ONE, sample((0,), (9,))), row(wrong, sample((0,), (2,)))], when="before", version=0)
    assert (result.accuracy, result.auc) == (None, 1.0)
    assert "eval/accuracy@1" not in result.metrics()
    assert result.metrics()["eval/auc@1"] == 1.0
    assert "AUC of single responses 100.0%" in result.describe()


def test_it_is_asked_at_one_version_and_reports_the_newest_that_contributed() -> None:
    rows = [row(ABC, sample((0, 1, 2), (9, 2, 3))), row(ONE, sample((0,), (9,), version=7))]
    result = evaluation([ABC, ONE], rows, when="during", version=4)
    assert (result.version, result.newest_version) == (4, 7)
    assert result.metrics() == {
        "eval/version": 4,
        "eval/newest_version": 7,
        "eval/accuracy@1": 1.0,
        "eval/parse_rate@1": 1.0,
        "eval/strict_parse_rate@1": 1.0,
    }


def test_preferences_without_an_answer_are_left_out_and_none_at_all_ends_the_run() -> None:
    lost = {"id": "one", "question": "", "error": "a prompt of 900 tokens"}
    assert evaluation([ABC, ONE], [row(ABC, sample((0, 1, 2), (9, 2, 3))), lost], when="after", version=4).rows == 1
    with pytest.raises(RunFailed, match=r"the after evaluation got no answer to 1 preferences; .*: a prompt of 900 tokens"):
        evaluation([ONE], [lost], when="after", version=4)


def test_a_sample_is_in_shown_order() -> None:
    (shown,) = sample_judgements([ABC], [row(ABC, sample((2, 0, 1), (9, 2, 3)))], when="after", version=4, count=5)
    assert shown.responses == ("c", "a", "b")  # response 2 of the preference's own order is shown first
    assert shown.scores == (3, 9, 2)
    assert shown.label == 1  # "Response 2", as the critique says
    assert (shown.principles, shown.critique, shown.completion) == ("brevity", "Response 2 is best.", "")
    assert shown.reward == 1.0


def test_an_unparsable_sample_shows_its_text_and_a_single_one_its_side_of_the_middle() -> None:
    rows = [row(ABC, sample((2, 0, 1), None)), row(ONE, sample((0,), (6,))), row(ONE, sample((0,), (5,)))]
    broken, right, wrong = sample_judgements([ABC, ONE, ONE], rows, when="after", version=4, count=3)
    assert (broken.scores, broken.failure, broken.reward) == ((), "no_box", -1.0)
    assert broken.completion == rows[0]["samples"][0]["text"]
    assert (right.label, right.scores, right.reward, wrong.reward) == (1, (6,), 1.0, -1.0)


def test_a_judgement_of_scores_alone_is_shown_as_it_stands() -> None:
    """It is not empty, though it has neither principles nor a critique."""
    bare = sample((0, 1, 2), (9, 2, 3)) | {"text": "Scores: \\boxed{9, 2, 3}"}
    (shown,) = sample_judgements([ABC], [row(ABC, bare)], when="after", version=4, count=1)
    assert (shown.principles, shown.critique, shown.completion) == ("", "", "Scores: \\boxed{9, 2, 3}")


def test_the_first_preferences_are_shown_at_every_evaluation(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge())
    shown = sample_judgements(PREFERENCES, rows, when="during", version=1, count=3)
    assert [judgement.preference for judgement in shown] == list("abc")


def test_both_orders_are_counted_and_the_first_is_shown() -> None:
    both = row(ABC, sample((0, 1, 2), (9, 2, 3)), sample((2, 1, 0), (2, 3, 9)))
    result = evaluation([ABC], [both], when="after", version=4)
    assert (result.accuracy, result.consistency) == (0.5, 0.0)
    assert result.metrics()["eval/consistency@1"] == 0.0
    assert "same best in both orders 0.0%" in result.describe()
    (shown,) = sample_judgements([ABC], [both], when="after", version=4, count=1)
    assert shown.responses == ("a", "b", "c")


def test_a_row_of_a_run_before_there_was_a_consistency_is_read() -> None:
    result = evaluation([ABC], [row(ABC, sample((0, 1, 2), (9, 2, 3)))], when="after", version=4)
    older = {name: value for name, value in result.row().items() if name not in {"consistency", "strict_parse_rate"}}
    assert Evaluation.from_row(older) == replace(result, strict_parse_rate=None)
    assert result.consistency is None
