"""Files of a teacher's judgements: what a row says, and what is refused and how."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from grm.preferences import DataError, Preference, Question
from grm.teacher_files import TeacherJudgement, load

PAIR = Preference(question=Question(id="7", query="q", responses=("a", "b")), label=0, subset="")
LONE = Preference(question=Question(id="lone", query="q", responses=("a",)), label=1, subset="")
GOOD = {"preference": "7", "permutation": [1, 0], "text": "Scores: \\boxed{2, 9}"}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "taught.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_row_is_a_judgement_of_a_preference_in_an_order(tmp_path: Path) -> None:
    rows = [
        GOOD | {"model": "ignored"},
        {"preference": 7, "permutation": [0, 1], "text": "t", "hinted": True},
        {"preference": "lone", "text": "t"},
        {"preference": "lone", "text": "u", "permutation": [0], "hinted": False},
    ]
    assert load(write(tmp_path, *rows), [PAIR, LONE]) == [
        TeacherJudgement(preference="7", permutation=(1, 0), hinted=False, text="Scores: \\boxed{2, 9}"),
        TeacherJudgement(preference="7", permutation=(0, 1), hinted=True, text="t"),
        TeacherJudgement(preference="lone", permutation=(0,), hinted=False, text="t"),
        TeacherJudgement(preference="lone", permutation=(0,), hinted=False, text="u"),
    ]


def test_a_preference_without_an_id_is_named_by_file_and_line(tmp_path: Path) -> None:
    plain = replace(PAIR, line="train:7")
    (judgement,) = load(write(tmp_path, GOOD | {"preference": "train:7"}), [plain, LONE])
    assert judgement.preference == "7", "its id, by which its label is found"
    other = replace(LONE, line="train:7")
    with pytest.raises(DataError, match="field 'preference': 'train:7' stands in two files of that name; give the rows of"):
        load(write(tmp_path, GOOD | {"preference": "train:7"}), [plain, other])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (GOOD | {"preference": "8"}, "field 'preference': '8' is the id of no training preference; give an id of data.train"),
        (GOOD | {"preference": True}, "field 'preference': True is the id of no"),
        ({"text": "t", "permutation": [0, 1]}, "field 'preference': is missing; "),
        ({"preference": "7", "text": "t"}, "field 'permutation': is missing; give the indices 0 to 1 of the responses"),
        (GOOD | {"permutation": [1, 1]}, r"field 'permutation': \[1, 1\] is no order of 2 responses; give"),
        (GOOD | {"permutation": [1, 2]}, r"field 'permutation': \[1, 2\] is no order of 2"),
        (GOOD | {"permutation": [True, False]}, r"field 'permutation': \[True, False\] is no order of 2"),
        (GOOD | {"permutation": ["1", "0"]}, "field 'permutation': "),
        (GOOD | {"permutation": {"0": 1}}, "field 'permutation': "),
        (GOOD | {"preference": "lone"}, r"field 'permutation': \[1, 0\] is no order of 1 responses"),
        (GOOD | {"text": " "}, "field 'text': is empty; give the judgement"),
        (GOOD | {"text": 7}, "field 'text': "),
        (GOOD | {"hinted": "yes"}, "field 'hinted': is 'yes'; give true, false, or leave it out"),
        ("[1]", r"is \[1\], not an object"),
    ],
)
def test_what_cannot_be_used_is_named(row: object, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"taught\.jsonl:2.*{problem}"):
        load(write(tmp_path, GOOD, row), [PAIR, LONE])


def test_a_file_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"taught\.jsonl: no rows"):
        load(write(tmp_path, ""), [PAIR])
