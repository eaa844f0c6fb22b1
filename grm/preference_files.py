"""Preferences in files of any shape that is known (`grm.shapes.table`, docs/data.md), in any format of `grm.opening`.

    {"prompt": query, "responses": [text, ...], "preferred": index}       index of the single best response
    {"prompt": query, "responses": [text, ...], "scores": [number, ...]}  the maximum is best; n = 1: 1 or 0
    {"prompt": query, "chosen": text, "rejected": text}                   rewardbench; chosen has index 0
    {"chosen": [{"role", "content"}, ...], "rejected": [...]}             TRL: conversations that differ in the last answer

    file ─▶ rows ─▶ preferences ─▶ without those that contradict, repeat or give the answer away ─▶ Loaded

Optional: "id" (text or integer, unique; by default a hash of the content: `grm.content`), "subset" (text), "system" (text), and
"messages" ([{"role", "content"}, ...]), a conversation in place of "prompt"; "prompt" may be such a list itself. It ends with
what the responses answer. Where "chosen" and "rejected" are lists of more than the answer, the query is theirs. A run that
shows them to the judge reads "reference" (text: a right answer) and "criteria" (text, or a list of texts). Other fields are
ignored.

A row that cannot be used is skipped and counted, the first ones by name. Where half of the rows cannot, the file is refused.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from grm.content import Placed, unusable, with_content_id, without_conflicts, without_leaks
from grm.json_rows import JsonRow, RowError, printable
from grm.opening import read
from grm.own_converters import RowConverter, as_read
from grm.preferences import NOT_VERIFIABLE, DataError, Loaded, Preference, Skipped, collect
from grm.shapes.table import converted


def load(*paths: Path, show: Collection[str] = (), strict: bool = False, convert: RowConverter = as_read) -> Loaded:
    """Return the preferences of a file, or of several that are one source (see the module's head). Every row is checked.

    Args:
        paths: The files, in order.
        show: Which of `reference` and `criteria` become part of the question. The others are not even looked at.
        strict: Refuse a file at the first row that cannot be read.
        convert: Makes each row one of a shape that is known.

    Raises:
        DataError: A file cannot be used; names file, line, field and remedy.
    """
    placed = [each for path in paths for each in _of_file(path, show, strict, convert)]
    return collect(without_leaks(without_conflicts(placed)))


def _of_file(path: Path, show: Collection[str], strict: bool, convert: RowConverter) -> list[Placed]:
    errors: list[RowError] = []
    placed = _without_rated_singles(list(_placed(read(path), show, strict, convert, errors)))
    name = printable(path)
    if not placed:
        raise DataError(f"{name}: is empty, no rows; give one JSON object per line")
    if 2 * len(errors) >= len(placed):
        many = f"{name}: {len(errors)} of {len(placed)} rows cannot be read; the first: " if len(placed) > 1 else ""
        raise DataError(f"{many}{errors[0]}")
    return placed


def _placed(
    rows: Iterable[JsonRow | RowError], show: Collection[str], strict: bool, convert: RowConverter, errors: list[RowError]
) -> Iterator[Placed]:
    """Yield (place, preference or skip) of all rows; those that cannot be read are added to `errors`."""
    for row in rows:
        try:
            if isinstance(row, RowError):
                raise row
            known = convert(row)
            items = [known] if isinstance(known, Skipped) else preferences_of(known, show)
            yield from ((row.where, item) for item in items)
        except RowError as error:
            if strict:
                raise
            errors.append(error)
            place = str(error).partition(": ")[0] if isinstance(row, RowError) else row.where
            yield place, Skipped(reason=error.reason, detail=str(error))


def preferences_of(row: JsonRow, show: Collection[str] = ()) -> list[Preference | Skipped]:
    """Return the preferences of a row, each with its id, or why it has none; `show` as in `load`. RowError if malformed.

    A row that holds several has its id with `.0`, `.1`, ... behind it.
    """
    items = [_checked(item, row.where) for item in converted(row, show)]
    if row.fields.get("id") is None:
        return [with_content_id(item, row.default_id) if isinstance(item, Preference) else item for item in items]
    ids = [row.id()] if len(items) == 1 else [f"{row.id()}.{number}" for number in range(len(items))]
    return [_named(item, name) if isinstance(item, Preference) else item for item, name in zip(items, ids, strict=True)]


def _named(preference: Preference, name: str) -> Preference:
    return replace(preference, question=replace(preference.question, id=name))


def _checked(item: Preference | Skipped, where: str) -> Preference | Skipped:
    reason = unusable(item) if isinstance(item, Preference) else item.reason
    return Skipped(reason=reason, detail=where) if reason else item


def _without_rated_singles(placed: list[Placed]) -> list[Placed]:
    """Skip all single responses if one has a rating beyond 0/1: then the file's 0s and 1s are ratings too, not verdicts."""
    if not any(isinstance(item, Skipped) and item.reason == NOT_VERIFIABLE for _, item in placed):
        return placed
    return [(where, Skipped(reason=NOT_VERIFIABLE) if _is_single(item) else item) for where, item in placed]


def _is_single(item: Preference | Skipped) -> bool:
    return isinstance(item, Preference) and len(item.question.responses) == 1
