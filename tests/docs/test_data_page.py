"""docs/data.md: every command is run; every row of its tables is a case or a test of the file above it, and each has a row."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grm.json_rows import JsonRow
from grm.preferences import Preference
from grm.shapes import fields, table
from launch.data import main
from tests.grm import test_opening
from tests.grm.shapes import rows, test_shapes, test_unusable_rows

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
CASES: dict[str, list[str]] = {  # by the file of a table's tests: what its rows are
    "tests/grm/shapes/test_shapes.py": [*rows.PAIRS, *rows.SINGLES],
    "tests/grm/shapes/test_unusable_rows.py": [*test_unusable_rows.TIES, *test_unusable_rows.BROKEN],
    "tests/grm/test_opening.py": [*test_opening.READ, *test_opening.REFUSED],
}
ALONE = {  # rows that have a test of their own
    "07 RewardBench 2": "test_rewardbench_2_is_one_right_answer_of_four",
    "07 RewardBench 2, Ties": "test_of_a_row_of_ties_each_right_answer_stands_against_all_wrong_ones",
    "08 RM-Bench": "test_rm_bench_is_nine_pairs_of_three_styles",
    "56 shapes mixed in one file": "test_56_shapes_may_be_mixed",
    "63 forty responses": "test_63_many_responses",
    "65 answers that are numbers": "test_65_answers_that_are_numbers",
    "45 rows that are repeated": "test_45_a_row_that_is_repeated_counts_once",
    "46 ids that are used twice": "test_46_ids_that_are_used_twice_are_refused",
    "67 an index out of range": "test_67_an_index_that_counts_from_1_ends_the_file",
    "99z some bad rows": "test_99z_the_bad_rows_of_a_file_are_named_up_to_a_number",
    "queries that hold an answer": "test_a_judge_that_copies_scores_chance",
    "two labels for one question": "test_of_rows_that_contradict_each_other_none_is_used",
    "55 U+2028 inside a text": "test_55_lines_end_where_json_says_so",
    "99 a second BOM inside": "test_99_a_second_mark_of_byte_order_is_dropped",
}
MODULES = (test_shapes, test_unusable_rows, test_opening)
LISTED = [*range(1, 50), *range(51, 70), *range(80, 101)]  # numbers of the agreed list of shapes


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_row_of_the_tables_is_a_case_and_every_case_has_a_row() -> None:
    tables = re.findall(r"^Tests: \[(\S+)\]\(\.\./\1\)\n\n\|.*\n\|-.*\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    listed = {file: re.findall(r"^\| (.+?) \| ", table, flags=re.MULTILINE) for file, table in tables}
    assert {file: sorted(set(names) - ALONE.keys()) for file, names in listed.items()} == {
        file: sorted(names) for file, names in CASES.items()
    }
    assert ALONE.keys() <= {name for names in listed.values() for name in names}
    assert [test for test in ALONE.values() if not any(hasattr(module, test) for module in MODULES)] == []


def test_every_number_of_the_list_has_a_row() -> None:
    numbers = {int(number) for number in re.findall(r"^(?:\| |\()(\d+)z?[ ,]", PAGE, flags=re.MULTILINE)}
    assert [number for number in LISTED if number not in numbers] == []


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, count in {"mine": 3, "heldout": 1}.items():
        pairs = [{"prompt": f"{rows.ASK} {i}", "chosen": rows.GOOD, "rejected": rows.BAD} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    program, script, *arguments = shlex.split(command)
    assert (program, script) == ("python", "launch/data.py")
    assert main(arguments) == 0
    if "--out" in arguments:
        written = (tmp_path / arguments[arguments.index("--out") + 1]).read_text()
        assert written.count("\n") == (2 if "--without" in command else 3)


def test_the_example_of_a_converter_works() -> None:
    converter, entry = blocks("python")
    names: dict[str, Any] = {**vars(fields)}
    exec(converter, names)
    row = {"prompt": "q", "first": "a", "second": "b", "rank_first": 2, "rank_second": 1}
    (shape,) = eval(entry, {"_shape": table._shape, "sides": SimpleNamespace(**names)})
    assert shape.needs <= row.keys()
    found = shape.convert(JsonRow(fields=row, where="x:1", default_id="x:1"))
    assert isinstance(found, Preference)
    assert (found.question.query, found.question.responses, found.label) == ("q", ("a", "b"), 1)
