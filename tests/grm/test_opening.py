"""Formats of data files: what can be read is, by its first bytes; all else is named as what it is."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from grm import json_stream, opening
from grm.opening import files, read, rows
from grm.preferences import DataError
from grm.sources import load

ROWS = [{"prompt": f"Frage {i}, schön?", "chosen": "ja", "rejected": "nein"} for i in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table() -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ROWS[0])
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


def parquet(names: Sequence[str] = tuple(ROWS[0])) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS).rename_columns(list(names)), sink)
    return sink.getvalue()


READ: dict[str, bytes] = {
    "JSONL": LINES.encode(),
    "80 array": json.dumps(ROWS).encode(),
    "81 array with indents": json.dumps(ROWS, indent=2).encode(),
    "82 gzip": gzip.compress(LINES.encode()),
    "82 gzip of an array": gzip.compress(json.dumps(ROWS).encode()),
    "83 csv": table().encode(),
    "85 BOM": b"\xef\xbb\xbf" + LINES.encode(),
    "86 CRLF": LINES.replace("\n", "\r\n").encode(),
    "89 CR only": LINES.replace("\n", "\r").encode(),
    "91 pretty-printed objects": "".join(json.dumps(row, indent=2) + "\n" for row in ROWS).encode(),
    "93 object with data": json.dumps({"data": ROWS}).encode(),
    "93 object with a version and data": json.dumps({"version": 1, "rows": ROWS}).encode(),
    "98 zstd": pyarrow.compress(LINES.encode(), codec="zstd", asbytes=True),
    "100 parquet": parquet(),
    "bz2": bz2.compress(LINES.encode()),
    "xz": lzma.compress(LINES.encode()),
}


@pytest.mark.parametrize("ending", ["jsonl", "json", "data"])
@pytest.mark.parametrize("name", READ)
def test_the_first_bytes_decide_whatever_the_name_is(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"file.{ending}"
    path.write_bytes(READ[name])
    assert [dict(row.fields) for row in rows(path)] == ROWS


ARRAY, DATA, PRETTY = json.dumps(ROWS), json.dumps({"data": ROWS}), json.dumps({"version": 1, "data": ROWS}, indent=1)
LINE = LINES.partition("\n")[0]


@pytest.mark.parametrize("between", ["", "\n", " \r\n\ufeff"], ids=["nothing", "a line", "a mark"])
@pytest.mark.parametrize(
    "first", [ARRAY, DATA, PRETTY, json.dumps(ROWS, indent=2)], ids=["array", "data", "pretty", "indented"]
)
@pytest.mark.parametrize("second", [ARRAY, DATA, PRETTY, LINE], ids=["array", "data", "pretty", "line"])
def test_no_row_behind_a_list_is_lost(tmp_path: Path, first: str, between: str, second: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(first + between + second, encoding="utf-8")
    assert [dict(row.fields) for row in rows(path)] == [*ROWS, *(ROWS if second != LINE else ROWS[:1])]


@pytest.mark.parametrize("count", [3, 9999])  # one that is read at once, and one that is not
@pytest.mark.parametrize(
    ("behind", "message"),
    [
        ("]", r"not JSON \(Expecting value at column \d+\)"),
        ("] }", "not JSON"),
        (", " + LINE, r"not JSON \(a comma behind the (list|object) at column"),
        ("\nthe end", "file.json:2: not JSON"),
    ],
)
def test_what_is_left_behind_a_list_is_refused(tmp_path: Path, count: int, behind: str, message: str) -> None:
    path = tmp_path / "file.json"
    for text in (json.dumps(ROWS * count), json.dumps({"data": ROWS * count, "version": 1})):
        path.write_text(text + behind, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            list(rows(path))


@pytest.mark.parametrize("count", [1, 9999])
@pytest.mark.parametrize("before", [{}, {"version": 1}])
@pytest.mark.parametrize("name", ["test", "rows"])
def test_an_object_with_several_lists_is_refused(tmp_path: Path, count: int, before: dict[str, int], name: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**before, "data": ROWS * count, name: ROWS}), encoding="utf-8")
    with pytest.raises(DataError, match=rf"'{name}'.*save the list that is meant, one JSON object per line"):
        list(rows(path))


@pytest.mark.parametrize("name", ["data", "rows", "examples"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_objects_in_a_row_is_a_field_of_it(tmp_path: Path, name: str, indent: int | None) -> None:
    path = tmp_path / "file.jsonl"
    own = [{name: [{"source": "x", "prompt": "another"}], **row} for row in ROWS] + [{**ROWS[0], name: ROWS}]
    path.write_text("".join(json.dumps(row, indent=indent) + "\n" for row in own), encoding="utf-8")
    assert [dict(row.fields) for row in rows(path)] == own


def test_an_item_of_the_list_that_is_no_object_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"version": 1, "data": [*ROWS, 5]}), encoding="utf-8")
    assert load(str(path)).skipped == {"row that is no object": 1}


def test_rows_behind_a_very_long_one_are_not_copied_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken stays where it is; the text is cut when more is read, which grows with the file and not with its square."""
    copied = 0

    class Counted(str):
        def __getitem__(self, place: Any) -> str:
            nonlocal copied
            text = Counted(super().__getitem__(place))
            copied += len(text)
            return text

    long = {"prompt": "x" * 3_000_000}
    path = tmp_path / "file.json"
    path.write_text(json.dumps([long, *({"n": i} for i in range(20_000))]), encoding="utf-8")
    more = json_stream.JsonStream._more

    def counted(self: json_stream.JsonStream, *size: int) -> None:
        more(self, *size)
        self._text = Counted(self._text)

    monkeypatch.setattr(json_stream.JsonStream, "_more", counted)
    assert len(list(rows(path))) == 20_001
    assert copied < 10 * path.stat().st_size


def test_99_a_second_mark_of_byte_order_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(READ["85 BOM"] * 2)
    assert len(list(rows(path))) == 6


def test_55_lines_end_where_json_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text('{"prompt": "a\u2028b\x85c", "chosen": "x", "rejected": "y"}\n', encoding="utf-8")
    assert next(rows(path)).fields["prompt"] == "a\u2028b\x85c"


REFUSED: dict[str, tuple[bytes, str]] = {
    "84 tsv": (table().replace(",", "\t").encode(), r"is a table with tabs \(tsv\); save it as JSONL or as csv with commas"),
    "semicolons": (b"prompt;chosen;rejected\na;b;c\n", "is a table with semicolons"),
    "87 UTF-16": (LINES.encode("utf-16"), "is UTF-16, as PowerShell's `>` writes; save it as UTF-8"),
    "87 UTF-16 without a mark": (LINES.encode("utf-16-le"), "is UTF-16"),
    "87 UTF-32": (LINES.encode("utf-32"), "is UTF-32; save it as UTF-8"),
    "88 Latin-1": (
        LINES.encode("latin-1"),
        r"file\.jsonl:1: not UTF-8 at byte \d+ of the line \('ö' in Latin-1\); save",
    ),
    "90 trailing commas": (
        LINES.replace("}\n", "},\n").encode(),
        r"file\.jsonl:1: not JSON \(a comma behind the object at column \d+\); give one JSON object per line",
    ),
    "92 empty": (b"", "is empty, no rows"),
    "94 Python text": (repr(ROWS[0]).encode(), r"is Python text, not JSON; write each row with json\.dumps\(row\)"),
    "94 a list as Python text": (repr(ROWS).encode(), "is Python text"),
    "96 LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        "is a Git LFS pointer, not the file; run",
    ),
    "97 HTML": (b"\n<!DOCTYPE html>\n<html>", "is an HTML page, such as a hub's login; download the file itself"),
    "XML": (b'<?xml version="1.0"?><Error>', "is XML, such as a store's error; download the file itself"),
    "csv in Latin-1": (table().encode("latin-1"), r"file\.jsonl: at line 1 or below: not UTF-8 \('ö' in Latin-1\); save"),
    "csv with two columns of one name": (b"prompt,chosen,rejected,chosen\na,b,c,d\n", "has two columns 'chosen'; remove or"),
    "parquet with two columns of one name": (parquet(["prompt", "chosen", "chosen"]), "has two columns 'chosen'; remove or"),
    "zip": (b"PK\x03\x04rest", "is a zip archive; unpack it"),
    "pickle": (b"\x80\x04rest", "is a Python pickle, which can run code"),
    "broken gzip": (gzip.compress(LINES.encode())[:-12], r"cannot be read \(.*copy or download it again"),
    "broken zstd": (b"\x28\xb5\x2f\xfdxxxxxxxx", r"cannot be read \(.*copy or download it again"),
    "broken parquet": (b"PAR1xxxxxxxxPAR1", r"broken parquet \("),
    "an array that ends early": (json.dumps(ROWS)[:-1].encode(), r"file\.jsonl:1: not JSON \(the file ends inside the list at"),
    "an array with a broken row": (b'[\n{"prompt": "q"},\n{"prompt" "q"}]', r"file\.jsonl:3: not JSON \(Expecting ':'"),
    "prose": (b"Dear all,\n", "not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_rows_is_named_as_what_it_is(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(str(path))


def test_a_broken_line_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(LINES + '{"prompt": "cut off\n', encoding="utf-8")
    loaded = load(str(path))
    assert (len(loaded.preferences), loaded.skipped) == (3, {"line that is not JSON": 1})
    assert loaded.named["line that is not JSON"][0].startswith(f"{path}:4: not JSON (")


@pytest.mark.parametrize("as_list", [False, True])
def test_a_row_in_which_a_field_stands_twice_is_a_bad_row(tmp_path: Path, as_list: bool) -> None:
    """Readers of JSON keep the last value: of two chosen answers, nobody knows which is meant."""
    path, twice = tmp_path / "file.json", '{"prompt": "q", "chosen": "a", "rejected": "b", "chosen": "c"}'
    path.write_text(f"[{json.dumps(ROWS)[1:-1]}, {twice}]" if as_list else f"{LINES}{twice}\n", encoding="utf-8")
    loaded = load(str(path))
    assert (len(loaded.preferences), loaded.skipped) == (3, {"row with a field twice": 1})
    line = 1 if as_list else 4
    assert loaded.named["row with a field twice"] == [f"{path}:{line}: field 'chosen' stands in it twice; keep one of the two"]


def test_a_line_that_is_too_long_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LONGEST_LINE", 1000)
    monkeypatch.setattr(opening, "HEAD", 64)
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps({**ROWS[0], "chosen": "x" * 1500}) + "\n" + LINES, encoding="utf-8")
    loaded = load(str(path))
    assert (len(loaded.preferences), loaded.skipped) == (3, {"line that is too long": 1})
    assert loaded.named["line that is too long"] == [f"{path}:1: longer than 1,000 bytes; give one JSON object per line"]


def test_an_empty_source_is_not_the_folder_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.jsonl").write_text(LINES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="a source of data is empty; give a path"):
        load("")


def test_rows_come_before_the_file_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be larger than the memory: what stands behind the first rows is not looked at."""
    monkeypatch.setattr(opening, "HEAD", 64)
    for broken in (LINES.encode() * 999 + b"\xff\n", json.dumps(ROWS * 9999)[:-1].encode() + b", broken"):
        path = tmp_path / "file"
        path.write_bytes(broken)
        stream = read(path)
        assert [next(stream).fields for _ in range(3)] == ROWS


def test_a_csv_row_of_another_length_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text('prompt,chosen,rejected\nq,"a, b",c\nr,a, b,c\ns,x,y\n')
    loaded = load(str(path))
    assert sorted(preference.question.responses for preference in loaded.preferences) == [("a, b", "c"), ("x", "y")]
    assert loaded.skipped == {"row of another length": 1}


# ---- folders and patterns --------------------------------------------------------------------------------------------


def test_a_folder_and_a_pattern_name_their_files(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for number, row in enumerate(ROWS):
        (tmp_path / "part" / f"{number}.jsonl").write_text(json.dumps(row))
    (tmp_path / "part" / "README.md").write_text("# rows")
    (tmp_path / "part" / ".hidden.jsonl").write_text("x")
    assert len(load(str(tmp_path)).preferences) == 3
    assert [path.name for path in files(str(tmp_path / "part" / "[01].jsonl"))] == ["0.jsonl", "1.jsonl"]
    with pytest.raises(DataError, match=r"holds no data files; give \.jsonl"):
        files(str(tmp_path / "*.parquet"))


def test_a_folder_with_train_and_test_is_refused(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"):
        (tmp_path / name).write_bytes(parquet())
    message = rf"\A{tmp_path}: holds files of several splits \(test-00000-of-00001\.parquet, train-00001-of-00002\.parquet\);"
    with pytest.raises(DataError, match=message):
        load(str(tmp_path))
    assert len(load(str(tmp_path / "train-*.parquet")).preferences) == 3


@pytest.mark.parametrize("places", [("train/data", "test/data"), ("a/train-0/x", "b/dev/x"), ("train", "more/eval")])
def test_a_folder_with_splits_in_folders_is_refused(tmp_path: Path, places: tuple[str, str]) -> None:
    paths = [tmp_path / f"{place}.jsonl" for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LINES, encoding="utf-8")
    with pytest.raises(DataError, match=rf"holds files of several splits \(.*{places[0]}\.jsonl"):
        files(str(tmp_path))


def test_the_name_of_the_folder_itself_says_nothing_of_its_files(tmp_path: Path) -> None:
    """It was asked for by that name."""
    for name in ("one", "train-2"):
        (tmp_path / "test").mkdir(exist_ok=True)
        (tmp_path / "test" / f"{name}.jsonl").write_text(LINES, encoding="utf-8")
    assert len(files(str(tmp_path / "test"))) == 2


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "rows[1].jsonl"
    path.write_text(LINES, encoding="utf-8")
    assert files(str(path)) == [path]
