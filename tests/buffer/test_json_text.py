"""JSON of others: what would never end, or is none, is one error with its place."""

import os
from pathlib import Path

import pytest

from buffer import json_lines, json_text
from buffer.json_text import JsonError, parse_object, read_object, read_value

NO_OBJECT = [b"", b"[1]", b"7", b'{"a": ', b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\xff"}']


@pytest.mark.parametrize("text", NO_OBJECT, ids=range(len(NO_OBJECT)))
def test_what_is_no_object_is_named_in_a_short_sentence(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    for read in (lambda: parse_object(text, str(path)), lambda: read_object(path)):
        with pytest.raises(JsonError, match=r"x\.json: (not JSON|expected a JSON object)") as caught:
            read()
        assert len(str(caught.value)) < 600


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": [1, "ü"]}', encoding="utf-8")
    assert read_object(tmp_path / "x.json") == {"a": [1, "ü"]}


def test_a_list_is_a_value_and_no_object(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    assert read_value(tmp_path / "x.json") == [1]
    with pytest.raises(JsonError, match="expected a JSON object"):
        read_object(tmp_path / "x.json")


def test_a_file_without_end_is_read_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LARGEST_FILE", 1 << 20)
    with (tmp_path / "x.json").open("wb") as file:
        file.write(b'{"a": "')
        file.truncate(1 << 34)  # sparse
    with pytest.raises(JsonError, match=r"x\.json: larger than 1 MiB"):
        read_object(tmp_path / "x.json")


def test_a_line_without_end_is_read_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LONGEST_LINE", 1 << 20)
    with (tmp_path / "x.jsonl").open("wb") as file:
        file.write(b'{"a": 1}\n\n{"a": "')
        file.truncate(1 << 34)
    with pytest.raises(JsonError, match=r"x\.jsonl:3: longer than 1,048,576 bytes"):
        list(json_lines.rows(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "."])
def test_what_may_never_end_is_not_opened(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (
        read_object,
        read_value,
        lambda path: list(json_lines.rows(path)),
        lambda path: json_lines.JsonLines(path, [0]),
    ):
        with pytest.raises(JsonError, match="not a regular file"):
            read(tmp_path / place)
