"""Preferences in JSONL files, one object per line (UTF-8).

    {"prompt": query, "responses": [text, ...], "preferred": index}       index of the single best response
    {"prompt": query, "responses": [text, ...], "scores": [number, ...]}  the maximum is best; n = 1: 1 or 0
    {"prompt": query, "chosen": text, "rejected": text}                   rewardbench; chosen has index 0
    {"chosen": [{"role", "content"}, ...], "rejected": [...]}             TRL: conversations that differ in the last answer

Optional: "id" (text or integer, unique; by default file name and line number: `grm.sources.default_names`), "subset" (text),
and "messages" ([{"role", "content"}, ...]), a conversation that replaces "prompt"; "prompt" may be such a list itself. It ends
with what the responses answer. Where "chosen" and "rejected" are lists of more than the answer, the query is theirs. A run that
shows them to the judge reads "reference" (text: a right answer) and "criteria" (text, or a list of texts). Other fields are
ignored.
"""

from collections.abc import Collection
from math import isfinite
from pathlib import Path

from grm.json_rows import JsonRow, messages, printable, rows, shown, wrong
from grm.preferences import (
    CONTEXTS_DIFFER,
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

MOST_RESPONSES = 1000  # of a row

ANSWERING = ("assistant", "gpt", "model", "bot")  # roles whose turns are answers

Turns = list[tuple[str, str]]  # (role, content)
Placed = tuple[str, Preference | Skipped]  # "file:line" and what stands there


def load(path: Path, *, name: str = "", show: Collection[str] = ()) -> Loaded:
    """Return the preferences of a file (see the module's head). Every row is checked.

    Args:
        path: The file.
        name: What stands before the line number in the id of a row that has none; "": the file's name.
        show: Which of `reference` and `criteria` become part of the question. The others are not even looked at.

    Raises:
        DataError: The file cannot be used; names file, line, field and remedy.
    """
    placed = _without_rated_singles([(row.where, to_preference(row, show)) for row in rows(path, name)])
    loaded = collect(placed)
    if not loaded.preferences and not loaded.skipped:
        raise DataError(f"{printable(path)}: no rows; give one JSON object per line")
    return loaded


def to_preference(row: JsonRow, show: Collection[str] = ()) -> Preference | Skipped:
    """Return the preference in a row, or why it has no usable one. DataError for a malformed row. `show`: as in `load`."""
    subset = row.subset()
    is_pair = "chosen" in row.fields or "rejected" in row.fields
    turns, responses = _pair(row) if is_pair else ([], _responses(row))
    if turns is None:
        return Skipped(reason=CONTEXTS_DIFFER)
    label = 0 if is_pair else _label(row, len(responses))
    question = Question(
        id=row.id(),
        query=_asked(row, "chosen", turns) if turns else _query(row),
        responses=responses,
        reference=_reference(row) if "reference" in show else "",
        criteria=_criteria(row) if "criteria" in show else (),
    )
    return label if isinstance(label, Skipped) else Preference(question=question, label=label, subset=subset)


def _pair(row: JsonRow) -> tuple[Turns | None, tuple[str, str]]:
    """Return the turns before the answers `chosen` and `rejected`, and these. [] where the query stands elsewhere, None where
    they answer different conversations."""
    if not isinstance(row.fields.get("chosen"), list) and not isinstance(row.fields.get("rejected"), list):
        return [], (row.filled("chosen", "give a response"), row.filled("rejected", "give a response"))
    chosen, rejected = (_answered(row, field) for field in ("chosen", "rejected"))
    return chosen[:-1] if chosen[:-1] == rejected[:-1] else None, (chosen[-1][1], rejected[-1][1])


def _answered(row: JsonRow, field: str) -> Turns:
    """Return a conversation that ends in an answer."""
    items = row.fields.get(field)
    if not isinstance(items, list) or not items:
        raise row.error(field, wrong(items, field in row.fields), "give both as texts, or both as lists of {role, content}")
    turns = messages(row, field, items)
    if turns[-1][0].lower() not in ANSWERING or not turns[-1][1].strip():
        raise row.error(field, "does not end in an answer", "let an assistant's turn with text stand last, or remove the row")
    return turns


def _reference(row: JsonRow) -> str:
    """Return the reference answer; "" where there is none."""
    return row.filled("reference", "give the reference answer as text") if row.fields.get("reference") is not None else ""


def _criteria(row: JsonRow) -> tuple[str, ...]:
    """Return what to judge by; () where it is not said."""
    values = row.fields.get("criteria")
    if values is None:
        return ()
    criteria = []
    for item in values if isinstance(values, list) else [values]:
        if not isinstance(item, str) or not item.strip():
            raise row.error("criteria", f"holds {shown(item)}", "give text, or a list of texts")
        criteria.append(clean(item))
    return tuple(criteria)


def _query(row: JsonRow) -> str:
    field = "prompt" if row.fields.get("messages") is None else "messages"
    items = row.fields.get(field)
    if field == "prompt" and not isinstance(items, list):
        return row.filled("prompt", "give the query as text")
    if not isinstance(items, list) or not items:
        raise row.error(field, wrong(items, True), "give a non-empty list of {role, content}")
    return _asked(row, field, messages(row, field, items))


def _asked(row: JsonRow, field: str, turns: Turns) -> str:
    """Return the query of a conversation up to what is to be answered."""
    if turns[-1][0].lower() in ANSWERING:
        problem = "ends the query with an assistant's turn, which may be one of the responses and give the label away"
        raise row.error(field, problem, "end the conversation with what the responses answer")
    query = conversation(turns)
    if not query.strip():
        raise row.error(field, "has no text", "give the conversation, or remove the row")
    return query


def _responses(row: JsonRow) -> tuple[str, ...]:
    values = row.fields.get("responses")
    if not isinstance(values, list) or not values:
        raise row.error("responses", wrong(values, "responses" in row.fields), "give a list of texts")
    if len(values) > MOST_RESPONSES:
        raise row.error("responses", f"has {len(values)} texts, {MOST_RESPONSES} are the most", "remove some, or the row")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise row.error(f"responses[{index}]", wrong(value, True), "give the response as text")
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
        raise row.error("preferred", f"is {shown(value)}", "name the one best; ties go into 'scores'")
    if isinstance(value, bool) or not isinstance(value, int):
        raise row.error("preferred", wrong(value, True), f"give the index of the best response, 0..{n - 1}")
    if not 0 <= value < n:
        raise row.error("preferred", f"is {shown(value)}, out of range", f"{n} responses: give 0..{n - 1}")
    return value


def _best_score(row: JsonRow, values: object, n: int) -> int | Skipped:
    if not isinstance(values, list):
        remedy = "give one number per response, or 'preferred'"
        raise row.error("scores", wrong(values, "scores" in row.fields), remedy)
    if len(values) != n:
        raise row.error("scores", f"has {len(values)} numbers for {n} responses", "give one per response")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise row.error("scores", f"holds {shown(value)}", "give numbers")
        if isinstance(value, float) and not isfinite(value):
            raise row.error("scores", f"holds {shown(value)}", "give finite numbers")
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
