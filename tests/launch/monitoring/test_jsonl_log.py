"""Files of JSON lines: a row that was appended whole is read, one that a kill cut off is not."""

import json
import os
import re
from pathlib import Path

import pytest

from buffer.json_text import JsonError
from launch.monitoring import jsonl_log

ROWS = [{"id": "a", "scores": [1, 2]}, {"id": "b", "text": "line\nbreak, \u2028 and 你好 and \ud800"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_what_was_appended_is_read(path: Path) -> None:
    jsonl_log.append(path, ROWS[:1])
    assert jsonl_log.repair_and_read(path) == ROWS[:1]
    jsonl_log.append(path, iter(ROWS[1:]))
    assert jsonl_log.repair_and_read(path) == ROWS
    assert path.read_bytes().count(b"\n") == 2


def test_a_file_that_is_not_there_has_no_rows_and_is_not_made(path: Path) -> None:
    assert jsonl_log.repair_and_read(path) == []
    jsonl_log.repair(path)
    assert not path.exists()


def test_an_empty_file_and_empty_lines_have_no_rows(path: Path) -> None:
    path.touch()
    assert jsonl_log.repair_and_read(path) == []
    jsonl_log.append(path, [])
    assert path.read_bytes() == b""
    path.write_text('\n{"id": "a"}\n\n')
    assert jsonl_log.repair_and_read(path) == [{"id": "a"}]


@pytest.mark.parametrize("cut", range(1, len(json.dumps(ROWS[1])) + 1))
def test_a_row_cut_off_anywhere_is_removed_and_the_next_starts_on_its_own_line(path: Path, cut: int) -> None:
    """A whole row without its newline is removed too, because it may have been cut (7 may be the start of 71)."""
    jsonl_log.append(path, ROWS[:1])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(ROWS[1])[:cut])
    assert jsonl_log.repair_and_read(path) == ROWS[:1]
    jsonl_log.append(path, ROWS[1:])
    assert jsonl_log.repair_and_read(path) == ROWS


def test_a_first_row_cut_off_leaves_an_empty_file(path: Path) -> None:
    path.write_bytes(b'{"id": "\xe4\xbd')
    jsonl_log.repair(path)
    assert path.read_bytes() == b""
    assert jsonl_log.repair_and_read(path) == []


def test_a_whole_file_is_not_touched(path: Path) -> None:
    jsonl_log.append(path, ROWS)
    before = path.stat()
    jsonl_log.repair(path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2]", "expected a JSON object; "),
        (b"7", "expected a JSON object; "),
        (b'{"id": ', "not JSON (Expecting value: "),
        (b'{"id": "\xff"}', "not JSON ('utf-8' codec can't decode byte 0xff "),
    ],
)
def test_a_line_that_is_not_an_object_is_named(path: Path, line: bytes, message: str) -> None:
    path.write_bytes(b'{"id": "a"}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}:3: {message}") + ".*remove the line"):
        jsonl_log.repair_and_read(path)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_last_newline_is_found_from_the_end_whatever_is_read_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """The file may be larger than memory."""
    monkeypatch.setattr(jsonl_log, "CHUNK", chunk)
    jsonl_log.append(path, ROWS)
    whole = path.read_bytes()
    for cut_off in (b"", b"x", b"{" * 50):
        path.write_bytes(whole + cut_off)
        jsonl_log.repair(path)
        assert path.read_bytes() == whole
    path.write_bytes(b"{" * 50)
    jsonl_log.repair(path)
    assert path.read_bytes() == b""


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(JsonError, match="not a regular file"):
        jsonl_log.repair(path)
