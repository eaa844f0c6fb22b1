"""A converter of the user's own, in front of a source of `data.train` or `data.heldout`: a function in a file.

    data.train=[mine.py:convert@rows.jsonl, others.jsonl]

    def convert(row: dict) -> dict | None: ...

It gets each row as the file has it, and returns one of a shape that is read (docs/data.md), or None to leave the row out. The
result is checked like a row of a file, and an error names file and line.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from grm.json_rows import JsonRow, RowError, shown
from grm.own_functions import RuleError, load_function
from grm.preferences import DataError, Skipped

CONVERTED = re.compile(r"(?P<named>.+?\.py:[^\W\d]\w*)@(?P<place>.+)")

RowConverter = Callable[[JsonRow], JsonRow | Skipped]
"""Returns the row to be read, or why there is none. RowError when the function fails on the row."""


def as_read(row: JsonRow) -> JsonRow:
    """Return the row as it is: the converter of a source that names none."""
    return row


def split(source: str) -> tuple[str, str]:
    """Return (FILE.py:FUNCTION, place) of a source; ("", source) of one without a converter."""
    found = CONVERTED.fullmatch(source)
    return (found["named"], found["place"]) if found else ("", source)


@cache
def load_converter(named: str) -> RowConverter:
    """Return the converter of FILE.py:FUNCTION, or `as_read` for "". DataError when it cannot be used."""
    if not named:
        return as_read
    try:
        function = load_function(named, "a row")
    except RuleError as error:
        raise DataError(str(error)) from error

    def convert(row: JsonRow) -> JsonRow | Skipped:
        try:
            found = function(dict(row.fields))
        except Exception as error:  # of any kind: it is the user's code
            raise RowError(
                f"{type(error).__name__} in {named}", f"{row.where}: {named} raised {type(error).__name__}: {error}"
            ) from error
        if found is None:
            return Skipped(reason=f"left out by {named}", detail=row.where)
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
            raise RowError(f"no row from {named}", f"{row.where}: {named} returned {shown(found)}: return a dict, or None")
        return replace(row, fields=dict(found))

    return convert
