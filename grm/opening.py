"""The door for data files: rows from JSONL, a JSON array, `{"data": [...]}`, csv or parquet, also packed (.gz .zst .bz2 .xz).

    path ─▶ regular file ─unpack─▶ what it is, by its first bytes (grm.file_kinds) ─▶ JsonRow, or the RowError of a broken row

Rows come one at a time, so a file may be larger than the memory. What concerns the whole file, as its encoding, is a DataError.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from grm.file_kinds import BOM, CSV, PARQUET, kind, packing
from grm.json_rows import JsonRow, Repeated, RowError, json_object, printable, wrong
from grm.json_stream import ONE_LIST, JsonStream, not_utf8
from grm.preferences import DataError
from grm.wrappers import lists_of

# What no row of preferences needs, and what would fill the memory or never end
LONGEST_LINE = 16 << 20  # bytes of a row
LONGEST_PASSED = 16 * LONGEST_LINE  # of a row that is passed over as too long; a longer one has no end
HEAD = 1 << 16  # bytes by which a file is known
BATCH = 256  # rows of a parquet file that are in memory

DATA_FILES = re.compile(r".*\.(jsonl?|ndjson|csv|parquet)(\.(gz|zst|bz2|xz))?", re.IGNORECASE)
_SPLIT = re.compile(r"(?<![a-z])(train|test|validation|valid|val|dev|eval|heldout)(?![a-z])", re.IGNORECASE)

_READABLE = "give a readable file: .jsonl, .json, .csv or .parquet, packed or not"
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)


def rows(path: Path) -> Iterator[JsonRow]:
    """Yield the rows of a file in turn. DataError if it cannot be read, or at the first row that is broken."""
    for row in read(path):
        if isinstance(row, RowError):
            raise row
        yield row


def read(path: Path) -> Iterator[JsonRow | RowError]:
    """Yield the rows of a file in turn; of a row that is broken, its error.

    Raises:
        DataError: The file cannot be read: names what it is and what to do.
    """
    name = printable(path)
    with closing(_opened(path, name)) as file:
        try:
            stream, head = _unpacked(file, name)
            found = kind(head, name)
            if found == PARQUET:
                yield from _parquet(path, name)
            elif found == CSV:
                yield from _csv(stream, name, path.stem)
            else:
                yield from _json(stream, name, path.stem)
        except _UNREADABLE as error:
            raise DataError(f"{name}: cannot be read ({_reason(error)}); copy or download it again") from None


def files(source: str) -> list[Path]:
    """Return the files that a source names: a file itself, the data files of a folder, or what a glob matches.

    Raises:
        DataError: A folder or glob has none, or a folder's files are of several splits, of which one may be held out.
    """
    if not source:
        raise DataError("a source of data is empty; give a path, tiny:<seed>:<count>, hf:<name> or bench:<name>")
    path, folder = Path(source), False
    try:
        if folder := path.is_dir():
            found = sorted(each for each in path.rglob("*") if _is_data(each, path))
        elif any(sign in source for sign in "*?[") and not path.exists():
            found = sorted(each for each in _base(path).glob(_pattern(path)) if each.is_file())
        else:
            return [path]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{printable(path)}: cannot be read ({_reason(error)}); give a readable file") from None
    if folder:
        _require_one_split(found, path)
    if not found:
        raise DataError(f"{printable(path)}: holds no data files; give .jsonl, .json, .csv or .parquet, packed or not")
    return found


def _is_data(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and bool(DATA_FILES.fullmatch(path.name)) and path.is_file()


def _require_one_split(found: list[Path], root: Path) -> None:
    """Refuse files whose paths inside the folder name several splits; the folder's own name says nothing."""
    splits: dict[frozenset[str], str] = {}
    for path in found:
        inside = path.relative_to(root)
        if named := frozenset(match[1].lower() for part in inside.parts if (match := _SPLIT.search(part))):
            splits[named] = printable(inside)
    if len(splits) > 1:
        names = ", ".join(sorted(splits.values()))
        raise DataError(f"{printable(root)}: holds files of several splits ({names}); name the files, or give a glob")


def _base(path: Path) -> Path:
    plain = []
    for part in path.parts:
        if any(sign in part for sign in "*?["):
            break
        plain.append(part)
    return Path(*plain)


def _pattern(path: Path) -> str:
    return str(path.relative_to(_base(path)))


def _opened(path: Path, name: str) -> BinaryIO:
    """Open a regular file: a device may never end, and a pipe can be read once only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for one
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; give a path, tiny:<seed>:<count>, hf:<name> or bench:<name>") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{name}: cannot be read ({_reason(error)}); {_READABLE}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{name}: cannot be read (not a regular file); {_READABLE}")
    return open(descriptor, "rb", buffering=HEAD)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unpacked(file: BinaryIO, name: str) -> tuple[BinaryIO, bytes]:
    """Return the stream of a file's bytes, unpacked, and the first of them."""
    how = packing(file.read(8))
    file.seek(0)
    stream: Any = file
    if how == "gzip":
        stream = gzip.GzipFile(fileobj=file)
    elif how == "bz2":
        stream = bz2.BZ2File(file)
    elif how == "xz":
        stream = lzma.LZMAFile(file)  # noqa: SIM115  # closed with the file
    elif how == "zstd":
        stream = _pyarrow(name).CompressedInputStream(file, "zstd")
    buffered = io.BufferedReader(stream, HEAD) if how else stream
    head = bytes(buffered.peek(HEAD)[:HEAD])
    if how and head.startswith(b"PAR1"):
        raise DataError(f"{name}: is a packed parquet file; unpack it")
    return buffered, head


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow  # takes a quarter of a second, and only zstd and parquet need it
    except ModuleNotFoundError:
        raise DataError(f"{name}: zstd and parquet files need pyarrow; pip install pyarrow, or save it as JSONL") from None
    return pyarrow


def _parquet(path: Path, name: str) -> Iterator[JsonRow]:
    """Yield the rows of a parquet file, some in memory at a time."""
    arrow = _pyarrow(name)
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            _require_own_names(table.schema_arrow.names, name)
            for batch in table.iter_batches(batch_size=BATCH):
                for fields in batch.to_pylist():
                    yield JsonRow(fields=fields, where=f"{name} row {number}", default_id=f"{path.stem}:{number}")
                    number += 1
    except arrow.ArrowException as error:
        raise DataError(f"{name}: broken parquet ({error}); copy or download it again") from None


def _require_own_names(columns: Sequence[str], name: str) -> None:
    """Refuse a table in which two columns have one name: of a row, only the last of them would be read."""
    if twice := [column for column, count in Counter(columns).items() if column and count > 1]:
        raise DataError(f"{name}: has two columns {twice[0]!r}; remove or rename one of them")


def _csv(stream: BinaryIO, name: str, stem: str) -> Iterator[JsonRow | RowError]:
    """Yield the rows of a csv file with a header; every field is text, an empty one is absent."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.DictReader(text, strict=True)
    try:
        _require_own_names(reader.fieldnames or (), name)
        for fields in reader:
            where = f"{name}:{reader.line_num}"
            if None in fields or None in fields.values():
                count = len(reader.fieldnames or ())
                yield RowError("row of another length", f"{where}: has not {count} fields, as the header; quote texts")
                continue
            filled = {key: value or None for key, value in fields.items()}
            yield JsonRow(fields=filled, where=where, default_id=f"{stem}:{reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: broken csv ({error}); save it as JSONL") from None
    except UnicodeDecodeError as error:
        raise not_utf8(f"{name}: at line {reader.line_num + 1} or below", error.object, error) from None


def _json(stream: BinaryIO, name: str, stem: str) -> Iterator[JsonRow | RowError]:
    """Yield the rows of JSON text: an object per line, or an array, or objects over several lines."""
    head = bytes(stream.peek(HEAD)[:HEAD])  # type: ignore[attr-defined]  # it is buffered
    if _by_lines(head):
        yield from _lines(stream, name, stem)
        return
    for number, (where, value) in enumerate(JsonStream(stream, name, longest=LONGEST_LINE).values(), start=1):
        yield from _objects(value, where, f"{stem}:{number}")


def _by_lines(head: bytes) -> bool:
    """Whether the first line of a file is a whole row, or at least no array and no object that goes on below or holds rows."""
    first, _, _ = head.removeprefix(BOM).lstrip().partition(b"\n")
    if first.startswith(b"["):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        goes_on = re.fullmatch(rb"\{\s*", first) or b"\r{" in first or re.fullmatch(rb'\{\s*"[^"]*"\s*:.*[,\[{]\s*', first)
        return not (first.startswith(b"{") and (goes_on or re.match(rb'\{\s*"(data|rows|examples)"\s*:\s*\[', first)))
    return not (isinstance(value, dict) and lists_of(value))


def _lines(stream: BinaryIO, name: str, stem: str) -> Iterator[JsonRow | RowError]:
    """Yield the row of each line that is not blank."""
    number, line = 1, stream.readline(LONGEST_LINE + 1)
    while line:
        line = line.removeprefix(BOM)  # also where two files were joined
        if len(line) > LONGEST_LINE:
            problem = f"{name}:{number}: longer than {LONGEST_LINE:,} bytes; give one JSON object per line"
            if not _passed_over(stream, line):
                raise DataError(problem)
            yield RowError("line that is too long", problem)
        elif line.strip():
            yield from _parsed(line.removesuffix(b"\n"), f"{name}:{number}", f"{stem}:{number}")
        number, line = number + 1, stream.readline(LONGEST_LINE + 1)


def _passed_over(stream: BinaryIO, line: bytes) -> bool:
    """Read on to the end of a line. Return whether it has one within LONGEST_PASSED bytes."""
    read = len(line)
    while line and not line.endswith(b"\n") and read < LONGEST_PASSED:
        line = stream.readline(HEAD)
        read += len(line)
    return not line or line.endswith(b"\n")


def _parsed(line: bytes, where: str, default_id: str) -> Iterator[JsonRow | RowError]:
    try:
        value: object = json.loads(line.decode("utf-8"), object_pairs_hook=json_object)
    except UnicodeDecodeError as error:
        raise not_utf8(where, line, error, at=f" at byte {error.start} of the line") from None
    except (ValueError, RecursionError) as error:  # broken JSON, a number of absurd length, absurd nesting
        place = f"{error.msg} at column {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        yield RowError("line that is not JSON", f"{where}: not JSON ({place}); give one JSON object per line")
        return
    yield from _objects(value, where, default_id)


def _objects(value: object, where: str, default_id: str) -> Iterator[JsonRow | RowError]:
    """Yield the row that a value is, or the rows of the list in it: `{"version": 1, "data": [...]}`."""
    names = lists_of(value) if isinstance(value, dict) else []
    if len(names) > 1:
        held = ", ".join(map(repr, names))
        yield RowError("object with several lists", f"{where}: holds several lists of objects ({held}); {ONE_LIST}")
        return
    if not isinstance(value, dict) or not names:
        yield _row(value, where, default_id)
        return
    for number, item in enumerate(value[names[0]], start=1):
        yield _row(item, f"{where} item {number}", f"{default_id}.{number}")


def _row(value: object, where: str, default_id: str) -> JsonRow | RowError:
    if isinstance(value, Repeated):
        return RowError("row with a field twice", f"{where}: field {value.name!r} stands in it twice; keep one of the two")
    if isinstance(value, dict):
        return JsonRow(fields=value, where=where, default_id=default_id)
    return RowError("row that is no object", f"{where}: {wrong(value, True)}, not an object; give one JSON object per line")
