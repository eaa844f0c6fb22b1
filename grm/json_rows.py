"""A row of a data file, with checked access to its fields; `grm.opening` reads them.

A field of another type than is needed is a `RowError` that names file, line, field and remedy. Other rows may be good.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grm.preferences import DataError, clean

MISSING = "is missing"
LONGEST_NAME = 1000  # characters of an id or a subset


class RowError(DataError):
    """One row cannot be used; those around it may be."""

    def __init__(self, reason: str, message: str) -> None:
        """Takes the reason by which such rows are counted, and what stands where with the remedy."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonRow:
    """One JSON object of a file, with checked access to its fields."""

    fields: Mapping[str, object]
    """Its fields."""
    where: str
    """`file:line`."""
    default_id: str
    """Its id if it has no field `id`."""
    nulls: frozenset[str] = frozenset()
    """Names of fields that are there and null, where these are not among `fields`."""

    def error(self, field: str, problem: str, remedy: str) -> RowError:
        """Return the error about one field. One that is missing may be there and null: `normalised` takes such fields out."""
        problem = "is null" if problem == MISSING and field in self.nulls else problem
        return RowError(f"unusable field {field.partition('[')[0]!r}", f"{self.where}: field {field!r}: {problem}; {remedy}")

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
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # pandas makes floats of a column of numbers with a hole
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.error("id", wrong(value, True), "give text or an integer, unique in the file")
        return self.short("id", clean(str(value)))

    def short(self, field: str, value: str) -> str:
        """Return a value of a field that names something; RowError if it is absurdly long."""
        if len(value) > LONGEST_NAME:
            raise self.error(field, f"has {len(value)} characters, {LONGEST_NAME} are the most", "give a shorter one")
        return value


class Repeated(dict[str, object]):
    """A JSON object in which a name stands twice, of which readers keep the last value."""

    name: str
    """The name."""


def json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object of names and values, as `object_pairs_hook` of `json`; a `Repeated` one where a name stands twice."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = Repeated(found)
    repeated.name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return repeated


def printable(path: Path) -> str:
    """Return a path for an error message, in which characters that a terminal would act on are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def wrong(value: object, present: bool) -> str:
    """Return what is the matter with a value of another type than is needed, for an error message."""
    return f"is {shown(value)}" if present else MISSING


def shown(value: object) -> str:
    """Return a value for an error message, cut to a readable length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = ascii(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of absurd size"
    except RecursionError:  # it could be read, from fewer calls deep
        text = "nested absurdly deep"
    return text if len(text) <= 60 else f"{text[:57]}..."
