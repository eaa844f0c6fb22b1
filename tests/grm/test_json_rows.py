"""Files of JSON rows: what can be read is, everything else is refused by place, and nothing hangs or fills the memory."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm import instructions, opening
from grm.preferences import DataError
from grm.sources import load

PAIR = {"id": "a", "prompt": "2 + 2?", "responses": ["4", "5"], "preferred": 0, "subset": "sums"}


def write(folder: Path, *rows: object) -> str:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"data\.jsonl: is empty, no rows; give one JSON object per line"),
        (b"\n \n", "is empty, no rows"),
        (b'\n{"prompt": "q"', r"data\.jsonl:2: not JSON \("),
        (b"prompt,chosen,rejected\n", "is empty, no rows"),
        (b'[\n{"prompt": "q"}]', r"data\.jsonl:2: field 'responses': is missing"),
        (b'[\n{"prompt": "q"}', r"data\.jsonl:2: not JSON \(the file ends inside the list"),
        (b"{}\xff", r"data\.jsonl:1: not UTF-8 at byte 2 of the line \('ÿ' in Latin-1\); save it as UTF-8, as `iconv"),
        (b"[" * 100_000, r"data\.jsonl:1: not JSON"),
        (b'{"preferred": ' + b"9" * 5000 + b"}", r"data\.jsonl:1: not JSON"),
    ],
)
def test_a_file_that_is_no_jsonl_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(str(path))


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file; give a path, tiny:<seed>:<count>, hf:"):
        load(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"holds no data files; give \.jsonl, \.json, \.csv or \.parquet"):
        load(str(tmp_path))
    for name in ("\x1b[2J\u202e\n.jsonl", "nul \x00", "x" * 300):
        with pytest.raises(DataError) as caught:
            load(str(tmp_path / name))
        assert str(caught.value).isprintable()


def test_a_line_without_end_is_read_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LONGEST_LINE", 1 << 20)
    with open(write(tmp_path, PAIR), "r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b'{"prompt": "')
        file.truncate(1 << 34)  # sparse
    with pytest.raises(DataError, match=r"data\.jsonl:2: longer than 1,048,576 bytes; give one JSON object per line"):
        load(str(tmp_path / "data.jsonl"))


@pytest.mark.parametrize("place", ["/dev/zero", "pipe"])
def test_what_may_never_end_is_refused(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for reader in (load, lambda path: instructions.load(Path(path))):
        with pytest.raises(DataError, match=r"cannot be read \(not a regular file\)"):
            reader(str(tmp_path / place))


def test_a_value_that_is_nested_as_deep_as_can_be_read_is_shown(tmp_path: Path) -> None:
    for depth in range(500, 1000, 7):
        (tmp_path / "data.jsonl").write_text(
            '{"prompt": "q", "responses": ["a", "b"], "preferred": %s}' % ("[" * depth + "]" * depth)
        )
        with pytest.raises(DataError, match=r"data\.jsonl:1: "):
            load(str(tmp_path / "data.jsonl"))


@given(content=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bytes\.jsonl"):
        load(str(path))
