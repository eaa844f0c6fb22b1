"""JSON rows of a file: one object per line (UTF-8), with checked access to its fields.

A line that cannot be read, or a field of another type than is needed, is a `DataError` that names file, line, field and remedy.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from grm.preferences import DataError, clean

# What no row of preferences needs, and what would fill the memory or never end
LONGEST_LINE = 16 << 20  # bytes of a row
LONGEST_NAME = 1000  # characters of an id or a subset


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonRow:
    """One JSON object of a file, with checked access to its fields."""

    fields: Mapping[str, object]
    """Its fields."""
    where: str
    """`file:line`."""
    default_id: str
    """Its id if it has no field `id`."""

    def error(self, field: str, problem: str, remedy: str) -> DataError:
        """Return the error about one field."""
        return DataError(f"{self.where}: field {field!r}: {problem}; {remedy}")

    def text(self, field: str, remedy: str, default: str | None = None) -> str:
        """Return the field as a string; a missing one is `default`."""
        value = self.fields.get(field, default)
        if not isinstance(value, str):
            raise self.error(field, wrong(value, field in self.fields), remedy)
        return clean(value)

    def filled(self, field: str, remedy: str) -> str:
        """Return the field as a string that is not blank."""
        value = self.text(field, remedy)
        if not value.strip():
            raise self.error(field, "is empty", f"{remedy}, or remove the row")
        return value

    def id(self) -> str:
        """Return the field `id` as text, or the default id."""
        value = self.fields.get("id")
        if value is None:
            return self.default_id
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.error("id", wrong(value, True), "give text or an integer, unique in the file")
        return self._short("id", clean(str(value)))

    def subset(self) -> str:
        """Return the field `subset`; "" where it is missing."""
        return self._short("subset", self.text("subset", "give text or leave it out", default=""))

    def _short(self, field: str, value: str) -> str:
        if len(value) > LONGEST_NAME:
            raise self.error(field, f"has {len(value)} characters, {LONGEST_NAME} are the most", "give a shorter one")
        return value


def messages(row: JsonRow, field: str, items: list[object]) -> list[tuple[str, str]]:
    """Return a field's list of {role, content} as pairs."""
    turns = []
    for message in items:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (0, 0)
        if not isinstance(role, str) or not isinstance(content, str):
            raise row.error(field, f"holds {shown(message)}", "each message is {role: text, content: text}")
        turns.append((clean(role), clean(content)))
    return turns


def rows(path: Path, default_name: str = "") -> Iterator[JsonRow]:
    """Yield the objects of a file in turn. DataError if it cannot be read, or a line is not an object."""
    name = printable(path)
    for number, line in enumerate(_lines(path, name), start=1):
        if line.strip():
            where = f"{name}:{number}"
            yield JsonRow(fields=_object(line, where), where=where, default_id=f"{default_name or path.stem}:{number}")


def printable(path: Path) -> str:
    """Return a path for an error message, in which characters that a terminal would act on are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def _lines(path: Path, name: str) -> Iterator[bytes]:
    """Yield the lines of a file, none of which is longer than LONGEST_LINE."""
    with _opened(path, name) as file:
        number, line = 1, file.readline(LONGEST_LINE + 1).removeprefix(b"\xef\xbb\xbf")
        while line:
            if len(line) > LONGEST_LINE:
                raise DataError(f"{name}:{number}: longer than {LONGEST_LINE:,} bytes; give one JSON object per line")
            yield line.removesuffix(b"\n")
            number, line = number + 1, file.readline(LONGEST_LINE + 1)


def _opened(path: Path, name: str) -> BinaryIO:
    """Open a regular file: a device may never end, and a pipe can be read once only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for one
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; give a path, tiny:<seed>:<count>, hf:<name> or bench:<name>") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{name}: cannot be read ({_reason(error)}); give a readable .jsonl file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{name}: cannot be read (not a regular file); give a readable .jsonl file")
    return open(descriptor, "rb")


def _reason(error: OSError | ValueError) -> str | None:
    return error.strerror if isinstance(error, OSError) else str(error)


def _object(line: bytes, where: str) -> Mapping[str, object]:
    try:
        value: object = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start} of the line; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # broken JSON, a number of absurd length, absurd nesting
        raise DataError(f"{where}: not JSON ({error}); give one JSON object per line") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: {wrong(value, True)}, not an object; give one JSON object per line")
    return value


def wrong(value: object, present: bool) -> str:
    """Return what is the matter with a value of another type than is needed, for an error message."""
    return f"is {shown(value)}" if present else "is missing"


def shown(value: object) -> str:
    """Return a value for an error message, cut to a readable length."""
    try:
        text = ascii(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of absurd size"
    except RecursionError:  # it could be read, from fewer calls deep
        text = "nested absurdly deep"
    return text if len(text) <= 60 else f"{text[:57]}..."
