"""What converters share: the query of a row, its answers, and labels as people write them (pure).

A converter is a function of one row: `labelled(row, query(row), [answer(row, "good"), answer(row, "bad")], best=0)`.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite
from typing import TypeGuard

from grm.chat_turns import ANSWERING, Turns, hh_turns, is_message, messages
from grm.json_rows import JsonRow, RowError, shown, wrong
from grm.preferences import EMPTY_RESPONSE, TWO_BEST, Preference, Question, Skipped, clean, conversation

EMPTY_QUERY = "empty query"

TEXTS = ("prompt", "question", "instruction", "query", "input", "usermsg")  # fields that hold the query as text
CHATS = ("messages", "conversations", "conversation", "context", "trajectory")  # those that hold it as messages
SYSTEMS = ("system", "system_prompt")  # those that hold the system text
SAID = ("label", "winner", "preference", "verdict", "preferred")  # those that may say which of two responses is better
MOST_RESPONSES = 1000  # of a row

_ONE_OF_TWO = "give one of the two, or remove the row"
_FIRST = ("a", "a>b", "a>>b", "model_a", "response_a", "response_1", "response1", "output_1", "assistant_a", "first")
_SECOND = ("b", "b>a", "b>>a", "model_b", "response_b", "response_2", "response2", "output_2", "assistant_b", "second")
_NEITHER = ("tie", "a=b", "b=a", "c", "tie (bothbad)", "tie(bothbad)", "both", "neither", "equal", "same", "none", "both_bad")


def labelled(row: JsonRow, query: str, responses: Sequence[str], label: int, subset: str) -> Preference | Skipped:
    """Return the preference of a row, or that it has an empty query or response."""
    if not query.strip():
        return Skipped(reason=EMPTY_QUERY)
    if not all(response.strip() for response in responses):
        return Skipped(reason=EMPTY_RESPONSE)
    cleaned = tuple(clean(response) for response in responses)
    question = Question(id=row.default_id, query=query, responses=cleaned)
    return Preference(question=question, label=label, subset=subset)


def sided(row: JsonRow, responses: Sequence[str], best: int | None, subset: str = "") -> Preference | Skipped:
    """Return the preference of a row of two responses; `best` None is a tie. RowError where a field names another."""
    require_side(row, best)
    return Skipped(reason=TWO_BEST) if best is None else labelled(row, query(row), responses, best, subset or subset_of(row))


def subset_of(row: JsonRow, *others: str) -> str:
    """Return the field `subset`, or the first of `others` that is text or a number; "" without."""
    for field in ("subset", *others):
        value = row.fields.get(field)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return row.short(field, clean(str(value)))
    return ""


# ---- the query -------------------------------------------------------------------------------------------------------


def query(row: JsonRow) -> str:
    """Return the query: a text field or messages up to what is to be answered, with the system text before it.

    Raises:
        RowError: There is none, two fields disagree, or it ends in an assistant's turn: maybe a response.
    """
    field, turns = query_turns(row)
    return asked(row, field, with_system(row, turns))


def query_turns(row: JsonRow) -> tuple[str, Turns]:
    """Return the field that holds the query, and its turns without system text and history. RowError as of `query`."""
    chats = chat_fields(row)
    if not chats:
        return _text_turns(row)
    field, *others = chats
    items = row.fields[field]
    if not isinstance(items, list) or not items:
        raise row.error(field, wrong(items, True), "give a non-empty list of {role, content}")
    turns = messages(row, field, items)
    require_said(row, turns, field, others)
    return field, turns


def chat_fields(row: JsonRow) -> list[str]:
    """Return the fields that hold the query as messages: those of CHATS, and those of TEXTS that are lists."""
    return [
        *(name for name in CHATS if name in row.fields),
        *(name for name in TEXTS if isinstance(row.fields.get(name), list)),
    ]


def require_said(row: JsonRow, turns: Turns, field: str, chats: Sequence[str]) -> None:
    """Refuse a row in which a text, or another of `chats`, says what the turns of `field` do not say."""
    for name in _texts(row):
        if not _says(turns, str(row.fields[name])):
            raise row.error(field, f"says something else than {name!r}", _ONE_OF_TWO)
    for name in chats:
        items = row.fields[name]
        if not isinstance(items, list) or _spaced(messages(row, name, items)) != _spaced(turns):
            raise row.error(field, f"says something else than {name!r}", _ONE_OF_TWO)


def asked(row: JsonRow, field: str, turns: Turns) -> str:
    """Return a conversation up to what is to be answered as the query."""
    if turns[-1][0].lower() in ANSWERING:
        problem = "ends the query with an assistant's turn, which may be one of the responses and give the label away"
        raise row.error(field, problem, "end the conversation with what the responses answer")
    text = conversation(turns)
    if not text.strip():
        raise row.error(field, "has no text", "give the conversation, or remove the row")
    return text


def with_system(row: JsonRow, turns: Turns) -> Turns:
    """Return the turns behind the row's fields `system` or `system_prompt`, and `history` ([[user, assistant], ...])."""
    history, before = row.fields.get("history"), Turns()
    systems = {name: text for name in SYSTEMS if name in row.fields and (text := row.text(name, "give it as text")).strip()}
    if len(set(systems.values())) > 1:
        raise row.error(SYSTEMS[0], f"says something else than {SYSTEMS[1]!r}", _ONE_OF_TWO)
    if systems:
        name, text = next(iter(systems.items()))
        if not turns or turns[0][0].lower() != "system":
            before.append(("system", clean(text)))
        elif not _same(turns[0][1], text):
            raise row.error(name, "says something else than the conversation's system turn", _ONE_OF_TWO)
    for pair in history if isinstance(history, list) else []:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise row.error("history", f"holds {shown(pair)}", "give [[user's text, assistant's text], ...]")
        before += [("user", clean(pair[0])), ("assistant", clean(pair[1]))]
    return [*before, *turns]


def _text_turns(row: JsonRow) -> tuple[str, Turns]:
    """Return the text field that holds the query, and its turns; what stands in `input` too is its end."""
    present = [name for name in TEXTS if name in row.fields]
    if not present:
        raise row.error("prompt", "is missing", "give the query as text")
    field, *others = [name for name in _texts(row) if name != "input"] or present
    text = row.filled(field, "give the query as text")
    for name in others:
        if name in _texts(row) and name != "input" and not _same(str(row.fields[name]), text):
            raise row.error(field, f"says something else than {name!r}", _ONE_OF_TWO)
    more = clean(str(row.fields["input"])) if "input" in _texts(row) else ""
    if more and not f" {' '.join(text.split())}".endswith(f" {' '.join(more.split())}"):
        text = f"{text}\n\n{more}"
    turns = hh_turns(text)
    if len(turns) > 1 and turns[-1][0] == "assistant":
        return field, turns if turns[-1][1] else turns[:-1]  # "...\n\nAssistant:" is where the responses begin
    return field, [("user", text)]


def _texts(row: JsonRow) -> list[str]:
    """Return the fields of TEXTS that are text and not blank."""
    return [name for name in TEXTS if isinstance(text := row.fields.get(name), str) and text.strip()]


def _says(turns: Turns, text: str) -> bool:
    """Whether a conversation says a text: as one of its turns, or as a whole, also as HH-RLHF writes it."""
    dialogue = hh_turns(text)
    dialogue = dialogue[:-1] if dialogue and dialogue[-1] == ("assistant", "") else dialogue
    if any(_same(text, content) for _, content in turns) or _same(text, conversation(turns)):
        return True
    return bool(dialogue) and _spaced(dialogue) == _spaced([turn for turn in turns if turn[0].lower() != "system"])


def _same(first: str, second: str) -> bool:
    return first.split() == second.split()


def _spaced(turns: Turns) -> list[tuple[str, list[str]]]:
    return [(role.lower(), content.split()) for role, content in turns]


# ---- answers ---------------------------------------------------------------------------------------------------------


def answer(row: JsonRow, field: str, value: object = None, place: str = "") -> str:
    """Return a response: text, a number, a message, or a list of one message. "" is left to `labelled`.

    Args:
        row: The row.
        field: Its field.
        value: What it holds; None: the field's.
        place: Behind the field, for errors, as `[1]`.
    """
    value = row.fields.get(field) if value is None and not place else value
    if isinstance(value, list) and len(value) == 1 and is_message(value[0]):
        value = value[0]
    if is_message(value):
        return messages(row, f"{field}{place}", [value])[0][1]
    if isinstance(value, dict) and isinstance(text := value.get("text", value.get("answer", value.get("content"))), str):
        return text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise row.error(f"{field}{place}", wrong(value, field in row.fields), "give the response as text")
    return value


def filled_answer(row: JsonRow, field: str, value: object = None, place: str = "", remedy: str = "give a response") -> str:
    """Return a response that is not blank."""
    text = answer(row, field, value, place)
    if not text.strip():
        raise row.error(f"{field}{place}", "is empty", f"{remedy}, or remove the row")
    return clean(text)


# ---- labels ----------------------------------------------------------------------------------------------------------


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a finite number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or isfinite(value)  # an integer may be too large for isfinite


def number(value: object) -> int | float | None:
    """Return a finite number: itself, or as text; None where it is none, as True and False are."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,17}(\.\d*)?([eE][+-]?\d{1,3})?\s*", value):
        value = float(value)
    return value if is_number(value) else None


def score(value: object) -> int | float | None:
    """Return a score: a number, or a verdict, of which true is 1 and false 0; None where it is neither."""
    said = value.strip().lower() if isinstance(value, str) else value
    return (
        {True: 1, False: 0, "true": 1, "false": 0}[said]
        if said in ("true", "false") or isinstance(said, bool)
        else number(value)
    )


def field_number(row: JsonRow, field: str) -> int | float:
    """Return a field that is a number, as text too. RowError of another."""
    found = number(row.fields.get(field))
    if found is None:
        raise row.error(field, wrong(row.fields.get(field), field in row.fields), "give a finite number")
    return found


def side(row: JsonRow, field: str) -> int | None:
    """Return which of two responses a text names (`A>B`, `model_b`, `[[A]]`): 0, 1, or None for a tie."""
    value = row.fields.get(field)
    said = value.strip().strip("[]").lower().replace(" ", "") if isinstance(value, str) else None
    known = {name.replace(" ", "") for name in _NEITHER}
    if said in _FIRST or said in _SECOND:
        return 0 if said in _FIRST else 1
    if said in known:
        return None
    raise row.error(field, f"is {shown(value)}", "name the better one as A>B, B>A, model_a or model_b, or a tie")


def naming(row: JsonRow) -> str:
    """Return the field of SAID that names a side: the first whose text does, else the first that is there."""
    present = [field for field in SAID if field in row.fields]
    for field in present:
        with suppress(RowError):
            side(row, field)
            return field
    return present[0]


def require_side(row: JsonRow, best: int | None, fields: Sequence[str] = SAID) -> None:
    """Refuse a row in which a text of these fields names another response than `best`; what names none is another matter."""
    for field in fields:
        try:
            named = side(row, field)
        except RowError:
            continue
        if named != best:
            meant = "a tie" if best is None else f"response {best} (counted from 0)"
            raise row.error(field, f"is {shown(row.fields[field])}, and another field says {meant}", "give one label")


def one_best(scores: Sequence[int | float], *, lowest: bool = False) -> int | None:
    """Return the index of the single highest score, or lowest; None where several share it."""
    best = min(scores) if lowest else max(scores)
    return list(scores).index(best) if list(scores).count(best) == 1 else None


def json_list(row: JsonRow, field: str) -> list[object]:
    """Return a list that is written as JSON in a text."""
    value = row.fields.get(field)
    try:
        items = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not items:
        raise row.error(field, wrong(value, field in row.fields), "give a list, or one as JSON in a text")
    return items
