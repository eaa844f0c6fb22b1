"""What a data file is, by its first bytes: the name's ending alone is often wrong (pure).

bytes ─▶ a kind that can be read, or a DataError that names what the file is and what to do
"""

import csv
import re

from grm.preferences import DataError

JSON, CSV, PARQUET = "JSON", "csv", "parquet"
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
BOM = b"\xef\xbb\xbf"

_OTHERS = {  # what files that are no rows begin with: what they are, what to do
    b"version https://git-lfs": ("a Git LFS pointer, not the file", "run `git lfs pull` where it was cloned"),
    b"PK\x03\x04": ("a zip archive", "unpack it and name the files in it"),
    b"ARROW1": ("an Arrow file", "save it as parquet or JSONL"),
    b"\xff\xff\xff\xff": ("an Arrow stream, as save_to_disk writes", "save it with to_parquet or to_json"),
    b"SQLite format": ("an SQLite database", "write its rows as JSONL"),
    b"%PDF": ("a PDF", "give a file of rows"),
    b"\x80": ("a Python pickle, which can run code", "write its rows as JSONL where it was made"),
}
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|\?xml)", re.IGNORECASE)
_PYTHON = re.compile(rb"\s*[\[{]\s*[{]?\s*u?'")
_COLUMN = re.compile(r"[A-Za-z_][\w .-]{0,60}")


def packing(head: bytes) -> str:
    """Return how a file is packed: `gzip`, `zstd`, `bz2` or `xz`; "": it is not."""
    return next((name for start, name in PACKED.items() if head.startswith(start)), "")


def kind(head: bytes, name: str) -> str:
    """Return the kind of an unpacked file: JSON, CSV or PARQUET.

    Args:
        head: Its first bytes, some kilobytes.
        name: Its name, for the error.

    Raises:
        DataError: It is something else; names what.
    """
    if head.startswith(b"PAR1"):
        return PARQUET
    for start, (what, remedy) in _OTHERS.items():
        if head.startswith(start):
            raise DataError(f"{name}: is {what}; {remedy}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _wide(head):
        encoding = "UTF-32" if b"\0\0" in head[:8] else "UTF-16, as PowerShell's `>` writes"
        raise DataError(f"{name}: is {encoding}; save it as UTF-8 (`-Encoding utf8`, or iconv)")
    text = head.removeprefix(BOM)
    if found := _HTML.match(text):
        what = "XML, such as a store's error" if found[1].lower() == b"?xml" else "an HTML page, such as a hub's login"
        raise DataError(f"{name}: is {what}; download the file itself")
    if _PYTHON.match(text):
        raise DataError(f"{name}: is Python text, not JSON; write each row with json.dumps(row)")
    return _by_header(text, name)


def _wide(head: bytes) -> bool:
    """Whether every second byte is NUL, as in UTF-16 without a mark."""
    return len(head) >= 8 and (not any(head[1:40:2]) or not any(head[:40:2])) and any(head)


def _by_header(text: bytes, name: str) -> str:
    """JSON, or CSV where the first line is a header of columns."""
    start = text.lstrip()
    if not start or start[:1] in b'{["':
        return JSON if start[:1] != b'"' or b"," not in start.splitlines()[0] else _csv(start, name)
    return _csv(start, name)


def _csv(text: bytes, name: str) -> str:
    line = text.splitlines()[0].decode("utf-8", "replace")
    if len(_columns(line, "\t")) > 1:
        raise DataError(f"{name}: is a table with tabs (tsv); save it as JSONL or as csv with commas")
    if len(_columns(line, ";")) > 1:
        raise DataError(f"{name}: is a table with semicolons; save it as JSONL or as csv with commas")
    return CSV if len(_columns(line, ",")) > 1 else JSON


def _columns(line: str, delimiter: str) -> list[str]:
    """Return the names of a header; [] if it is none: then the line is data or prose."""
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    named = names[1:] if names[:1] == [""] else names  # the column of an index has no name
    return names if named and all(_COLUMN.fullmatch(name.strip()) for name in named) else []
