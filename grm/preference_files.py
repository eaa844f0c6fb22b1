"""Preferences in JSONL files, one object per line (UTF-8).

    {"prompt": query, "responses": [text, ...], "preferred": index}       index of the single best response
    {"prompt": query, "responses": [text, ...], "scores": [number, ...]}  the maximum is best; n = 1: 1 or 0
    {"prompt": query, "chosen": text, "rejected": text}                   rewardbench; chosen has index 0

Optional: "id" (text or integer, unique; by default file name and line number: `grm.sources.default_names`), "subset" (text),
and "messages" ([{"role", "content"}, ...]), a conversation that replaces "prompt". Other fields are ignored.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import BinaryIO

from grm.preferences import (
    NOT_VERIFIABLE,
    TWO_BEST,
    DataError,
    Loaded,
    Preference,
    Question,
    Skipped,
    clean,
    collect,
    conversation,
)

# What no row of preferences needs, and what would fill the memory or never end
LONGEST_LINE = 16 << 20  # bytes of a row
MOST_RESPONSES = 1000  # of a row
LONGEST_NAME = 1000  # characters of an id or a subset

Placed = tuple[str, Preference | Skipped]  # "file:line" and what stands there


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
            raise self.error(field, _wrong(value, field in self.fields), remedy)
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
            raise self.error("id", _wrong(value, True), "give text or an integer, unique in the file")
        return self._short("id", clean(str(value)))

    def subset(self) -> str:
        """Return the field `subset`; "" where it is missing."""
        return self._short("subset", self.text("subset", "give text or leave it out", default=""))

    def _short(self, field: str, value: str) -> str:
        if len(value) > LONGEST_NAME:
            raise self.error(field, f"has {len(value)} characters, {LONGEST_NAME} are the most", "give a shorter one")
        return value


def load(path: Path, *, limit: int | None = None, name: str = "") -> Loaded:
    """Return the preferences of a file (see the module's head), or its first `limit`. Every row is checked.

    Args:
        path: The file.
        limit: Most preferences; None: all.
        name: What stands before the line number in the id of a row that has none; "": the file's name.

    Raises:
        DataError: The file cannot be used; names file, line, field and remedy.
    """
    placed = _without_rated_singles([(row.where, to_preference(row)) for row in rows(path, name)])
    loaded = collect(placed, limit=limit)
    if not loaded.preferences and not loaded.skipped:
        raise DataError(f"{printable(path)}: no rows; give one JSON object per line")
    return loaded


def to_preference(row: JsonRow) -> Preference | Skipped:
    """Return the preference in a row, or why it has no usable one. DataError for a malformed row."""
    subset = row.subset()
    if "chosen" in row.fields or "rejected" in row.fields:
        pair = (row.filled("chosen", "give a response"), row.filled("rejected", "give a response"))
        return Preference(question=Question(id=row.id(), query=_query(row), responses=pair), label=0, subset=subset)
    question = Question(id=row.id(), query=_query(row), responses=_responses(row))
    label = _label(row, len(question.responses))
    if isinstance(label, Skipped):
        return label
    return Preference(question=question, label=label, subset=subset)


def messages(row: JsonRow, field: str, items: list[object]) -> list[tuple[str, str]]:
    """Return a field's list of {role, content} as pairs."""
    turns = []
    for message in items:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (0, 0)
        if not isinstance(role, str) or not isinstance(content, str):
            raise row.error(field, f"holds {_shown(message)}", "each message is {role: text, content: text}")
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
        raise DataError(f"{where}: {_wrong(value, True)}, not an object; give one JSON object per line")
    return value


def _query(row: JsonRow) -> str:
    items = row.fields.get("messages")
    if items is None:
        return row.filled("prompt", "give the query as text")
    if not isinstance(items, list) or not items:
        raise row.error("messages", _wrong(items, True), "give a non-empty list of {role, content}")
    query = conversation(messages(row, "messages", items))
    if not query.strip():
        raise row.error("messages", "are empty", "give the conversation, or remove the row")
    return query


def _responses(row: JsonRow) -> tuple[str, ...]:
    values = row.fields.get("responses")
    if not isinstance(values, list) or not values:
        raise row.error("responses", _wrong(values, "responses" in row.fields), "give a list of texts")
    if len(values) > MOST_RESPONSES:
        raise row.error("responses", f"has {len(values)} texts, {MOST_RESPONSES} are the most", "remove some, or the row")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise row.error(f"responses[{index}]", _wrong(value, True), "give the response as text")
        if not value.strip():
            raise row.error(f"responses[{index}]", "is empty", "give the response as text, or remove the row")
    return tuple(clean(value) for value in values)


def _label(row: JsonRow, n: int) -> int | Skipped:
    if "preferred" in row.fields and "scores" in row.fields:
        raise row.error("preferred", "stands beside 'scores'", "give one of them")
    if "preferred" in row.fields:
        return _preferred(row, row.fields["preferred"], n)
    return _best_score(row, row.fields.get("scores"), n)


def _preferred(row: JsonRow, value: object, n: int) -> int:
    if n == 1:
        raise row.error("preferred", "has no meaning for a single response", "give scores: [1] or [0] (right, wrong)")
    if isinstance(value, list):
        raise row.error("preferred", f"is {_shown(value)}", "name the one best; ties go into 'scores'")
    if isinstance(value, bool) or not isinstance(value, int):
        raise row.error("preferred", _wrong(value, True), f"give the index of the best response, 0..{n - 1}")
    if not 0 <= value < n:
        raise row.error("preferred", f"is {_shown(value)}, out of range", f"{n} responses: give 0..{n - 1}")
    return value


def _best_score(row: JsonRow, values: object, n: int) -> int | Skipped:
    if not isinstance(values, list):
        remedy = "give one number per response, or 'preferred'"
        raise row.error("scores", _wrong(values, "scores" in row.fields), remedy)
    if len(values) != n:
        raise row.error("scores", f"has {len(values)} numbers for {n} responses", "give one per response")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise row.error("scores", f"holds {_shown(value)}", "give numbers")
        if isinstance(value, float) and not isfinite(value):
            raise row.error("scores", f"holds {_shown(value)}", "give finite numbers")
    if n == 1:
        return int(values[0]) if values[0] in (0, 1) else Skipped(reason=NOT_VERIFIABLE)
    best = max(values)
    return values.index(best) if values.count(best) == 1 else Skipped(reason=TWO_BEST)


def _without_rated_singles(placed: list[Placed]) -> list[Placed]:
    """Skip all single responses if one has a rating beyond 0/1: then the file's 0s and 1s are ratings too, not verdicts."""
    rated = Skipped(reason=NOT_VERIFIABLE)
    if rated not in [item for _, item in placed]:
        return placed
    return [(where, rated if _is_single(item) else item) for where, item in placed]


def _is_single(item: Preference | Skipped) -> bool:
    return isinstance(item, Preference) and len(item.question.responses) == 1


def _wrong(value: object, present: bool) -> str:
    return f"is {_shown(value)}" if present else "is missing"


def _shown(value: object) -> str:
    """Return a value for an error message, cut to a readable length."""
    try:
        text = ascii(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of absurd size"
    except RecursionError:  # it could be read, from fewer calls deep
        text = "nested absurdly deep"
    return text if len(text) <= 60 else f"{text[:57]}..."
