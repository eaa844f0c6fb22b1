"""One pair, or one single response, of each question out of many verified solutions."""

import json
import random
from pathlib import Path

import pytest

from grm import hf_sets
from grm.preferences import DataError
from grm.solutions import Problem, drawn, pairs, singles
from grm.sources import load


def test_of_each_question_one_right_and_one_wrong_row_is_drawn() -> None:
    verdicts = [("p", True), ("q", False), ("p", False), ("p", True), ("q", False), ("p", False), ("r", True)]
    first, second, third = drawn(verdicts, "set")
    assert first.right in (0, 3)
    assert first.wrong in (2, 5)
    assert (second.right, second.wrong in (1, 4)) == (None, True)
    assert (third.right, third.wrong) == (6, None)
    assert drawn(verdicts, "set") == [first, second, third]


def test_the_draw_is_fair_and_a_row_that_comes_later_changes_it_only_by_being_drawn() -> None:
    places = [drawn([("p", True)] * 4, f"set {number}")[0].right for number in range(400)]
    assert all(70 <= places.count(row) <= 130 for row in range(4))
    for number in range(20):
        few, more = (drawn([("p", True)] * count, f"set {number}")[0].right for count in (4, 5))
        assert more in (few, 4)


def test_pairs_and_singles_by_hand() -> None:
    problems = [Problem(right=4, wrong=7, coin=True), Problem(right=1, wrong=2), Problem(right=3), Problem(wrong=5, coin=True)]
    assert pairs(problems) == [(4, 7), (1, 2), (3,), (5,)]
    assert singles(problems) == [(4,), (2,), (3,), (5,)]


def test_singles_are_right_as_often_as_wrong() -> None:
    rng = random.Random(0)
    verdicts = [(f"question {number}", right) for number in range(400) for right in (True, False)]
    rng.shuffle(verdicts)
    chosen = [verdicts[row][1] for (row,) in singles(drawn(verdicts, "set"))]
    assert len(chosen) == 400
    assert 160 <= sum(chosen) <= 240, "200 expected, standard deviation 10"


# ---- of a public set -------------------------------------------------------------------------------------------------

SOLUTIONS = [
    {"question": question, "generated_solution": f"solution {number}", "is_correct": right, "dataset": "math"}
    for number, (question, right) in enumerate([("p", True), ("q", False), ("p", False), ("q", True), ("r", True), ("p", True)])
]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of OpenMathInstruct: two questions with right and wrong solutions, and one that was always solved."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for kind, right in (("correct", True), ("incorrect", False)):
        path = tmp_path / "copy" / f"{kind}_solutions" / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in SOLUTIONS if each["is_correct"] is right), encoding="utf-8")
    return tmp_path / "copy"


def test_openmath_pairs(copy: Path) -> None:
    loaded = load(f"hf:nvidia/OpenMathInstruct-1:pairs@{copy}")
    assert loaded.skipped == {hf_sets.ONE_VERDICT: 1}
    by_query = {each.question.query: each for each in loaded.preferences}
    assert by_query["q"].question.responses == ("solution 3", "solution 1")
    assert by_query["p"].question.responses in {("solution 0", "solution 2"), ("solution 5", "solution 2")}
    assert {(each.label, each.subset) for each in loaded.preferences} == {(0, "math")}
    assert all(each.question.id.startswith("nvidia/OpenMathInstruct-1:pairs:") for each in loaded.preferences)
    assert load(f"hf:nvidia/OpenMathInstruct-1:pairs@{copy}") == loaded


def test_openmath_singles(copy: Path) -> None:
    singles, all_of_them = (load(f"hf:nvidia/OpenMathInstruct-1{form}@{copy}") for form in (":singles", ""))
    assert sorted(each.question.query for each in singles.preferences) == ["p", "q", "r"]
    assert len(all_of_them.preferences) == 6
    verdicts = {each.question.responses: each.label for each in all_of_them.preferences}
    assert all(each.label == verdicts[each.question.responses] for each in singles.preferences)
    both = [*singles.preferences, *all_of_them.preferences, *load(f"hf:nvidia/OpenMathInstruct-1:pairs@{copy}").preferences]
    assert len({each.question.id for each in both}) == len(both), "one set may be named in several forms"


def test_a_verdict_that_is_none_is_named_with_its_row(copy: Path) -> None:
    path = copy / "correct_solutions" / "train.jsonl"
    path.write_text(path.read_text().replace("true", '"yes"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"hf:nvidia/OpenMathInstruct-1:pairs row 0: field 'is_correct': is not true or false"):
        load(f"hf:nvidia/OpenMathInstruct-1:pairs@{copy}")


def test_a_form_of_a_set_is_loaded_from_its_repository() -> None:
    assert hf_sets.repository("nvidia/OpenMathInstruct-1:pairs") == "nvidia/OpenMathInstruct-1"
    assert hf_sets.parts("nvidia/OpenMathInstruct-1:pairs@v1") == ("nvidia/OpenMathInstruct-1:pairs", "", "v1")
