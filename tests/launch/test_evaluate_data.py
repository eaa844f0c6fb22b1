"""An evaluation and its data: files of one name, and rows that change between two starts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.judging.fake_server import FakeServer
from tests.launch.test_evaluate import ROWS, rows, server, started

__all__ = ["server", "started"]  # fixtures


def test_two_files_of_one_name_are_judged(
    started: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [{name: value for name, value in row.items() if name != "id"} for row in ROWS[:2]]
    files = [rows(tmp_path / folder / "d.jsonl", row) for folder, row in zip("ab", plain, strict=True)]
    assert started("--data", *files) == 0
    judged = [json.loads(line) for line in (tmp_path / "out" / "judgements.jsonl").read_text().splitlines()[1:]]
    assert len({row["id"] for row in judged}) == 2
    assert f"used       data.heldout: 1 of {files[0]}, 1 of {files[1]}\n" in capsys.readouterr().out


def test_rows_that_have_changed_are_judged_again_and_no_others(
    started: Callable[..., int], server: FakeServer, tmp_path: Path
) -> None:
    """Ids are of the content here: a row that was put in front moves no other."""
    plain = [{name: value for name, value in row.items() if name != "id"} for row in ROWS[:3]]
    data = rows(tmp_path / "d.jsonl", *plain)
    assert started("--data", data, "--k", "0") == 0
    first = len(server.asked)
    rows(tmp_path / "d.jsonl", *plain[:2], plain[2] | {"prompt": "another"})
    assert started("--data", data, "--k", "0") == 0
    assert len(server.asked) == first + 2 + 1, "and a stored one again, to see whether the judge is the same"
    rows(tmp_path / "d.jsonl", plain[2], *plain[:2])
    assert started("--data", data, "--k", "0") == 0
    assert len(server.asked) == first + 2 + 1, "all three are on disk already"
    table = json.loads((tmp_path / "out" / "table.json").read_text())["subsets"]["overall"]
    assert (table["rows"], table["figures"]["greedy"]["value"]) == (3, pytest.approx(2 / 3))
