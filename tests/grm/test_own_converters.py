"""Rows of the user's own shape, read by a function in front of a source: of files, and of sets of the hub."""

import json
from pathlib import Path

import pytest

from grm.own_converters import split
from grm.preferences import DataError
from grm.sources import across_sources, load
from launch.data import main, shapes_met
from launch.setup.model_card import _source_name

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXAMPLE = f"{EXAMPLES / 'own_data.py'}:convert@{EXAMPLES / 'ranked.jsonl'}"


def own(folder: Path, body: str, *rows: object) -> str:
    (folder / "mine.py").write_text(f"def mine(row):\n    {body}\n")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{folder / 'mine.py'}:mine@{folder / 'rows.jsonl'}"


def test_the_example_makes_pairs_and_leaves_a_tie_out() -> None:
    found = load(EXAMPLE)
    pairs = {p.question.id: (p.question.responses, p.label) for p in found.preferences}
    assert pairs == {
        "moon": (("We see its sunlit half from changing angles.", "The Earth's shadow falls on it."), 0),
        "ice": (("It is less dense than water.", "It is cold."), 0),
    }
    ((reason, count),) = found.skipped.items()
    assert reason.startswith("left out by ")
    assert reason.endswith("own_data.py:convert")
    assert count == 1
    assert list(found.named[reason]) == [f"{EXAMPLES / 'ranked.jsonl'}:3"]


def test_data_check_and_convert_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shapes_met(EXAMPLE)["chosen and rejected"] == 2
    assert main(["check", EXAMPLE]) == 0
    assert "chosen and rejected" in capsys.readouterr().out
    assert main(["convert", EXAMPLE, "--out", str(tmp_path / "own.jsonl")]) == 0
    assert (tmp_path / "own.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return row['nothing']", r"rows\.jsonl:1: .*mine\.py:mine raised KeyError: 'nothing'"),
        ("return [row]", r"rows\.jsonl:1: .*mine returned \[\{'prompt'.*: return a dict, or None"),
        ("return {'prompt': 1, 'chosen': 'a', 'rejected': 'b'}", r"rows\.jsonl:1: field 'prompt'"),
    ],
)
def test_what_a_converter_does_wrong_names_the_row(tmp_path: Path, body: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        load(own(tmp_path, body, {"prompt": "q", "chosen": "a", "rejected": "b"}))


def test_a_converter_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"nowhere\.py:mine: no such file; check the path"):
        load(f"nowhere.py:mine@{tmp_path / 'rows.jsonl'}")


def test_names_reach_it_as_the_file_has_them(tmp_path: Path) -> None:
    source = own(
        tmp_path,
        "return {'prompt': row['Q'], 'chosen': row['Good'], 'rejected': row['Bad']}",
        *({"Q": f"q{i}", "Good": "a", "Bad": "b", "None": None} for i in range(3)),
    )
    assert [p.question.responses for p in load(source).preferences] == [("a", "b")] * 3


def test_a_set_of_the_hub_passes_through_it(tmp_path: Path) -> None:
    """Its own converter is not asked, names are as published, and what concerns the whole source is looked at."""
    copy = tmp_path / "copy"
    copy.mkdir()
    rows = [{"Ask": f"q{i}", "Yes": f"a{i}", "No": f"b{i}"} for i in range(4)]
    (copy / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(
        "def mine(row):\n    return {'prompt': row['Ask'], 'chosen': row['Yes'], 'rejected': row['No']}\n"
    )
    source = f"{tmp_path / 'mine.py'}:mine@hf:nvidia/HelpSteer2@{copy}"
    (found,) = across_sources([source], [load(source)])
    assert sorted(p.question.query for p in found.preferences) == ["q0", "q1", "q2", "q3"]
    with pytest.raises(DataError):
        load(f"hf:nvidia/HelpSteer2@{copy}")


def test_what_is_read_as_published_takes_none() -> None:
    with pytest.raises(DataError, match="is read as it was published; a converter is for files and hf: sets"):
        load(f"{EXAMPLES / 'own_data.py'}:convert@tiny:1:4")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a.py:f@b.jsonl", ("a.py:f", "b.jsonl")),
        ("x/a.py:f@hf:o/n@main", ("x/a.py:f", "hf:o/n@main")),
        ("hf:o/n@main", ("", "hf:o/n@main")),
        ("me@home/rows.jsonl", ("", "me@home/rows.jsonl")),
    ],
)
def test_a_source_is_split_at_its_converter(source: str, parts: tuple[str, str]) -> None:
    assert split(source) == parts


def test_a_model_card_names_the_file_without_its_folder() -> None:
    assert _source_name("/home/me/a.py:f@/data/rows.jsonl") == "rows.jsonl"
