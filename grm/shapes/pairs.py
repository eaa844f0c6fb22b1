"""Rows that name the better of two answers by its field: `chosen`, `rejected`, as texts, messages or conversations (pure)."""

from grm.chat_turns import ANSWERING, Turns, hh_turns, messages
from grm.json_rows import JsonRow, wrong
from grm.preferences import CONTEXTS_DIFFER, Preference, Skipped
from grm.shapes.fields import (
    CHATS,
    TEXTS,
    asked,
    chat_fields,
    filled_answer,
    labelled,
    number,
    query,
    query_turns,
    require_said,
    subset_of,
    with_system,
)

SCORES = (  # of the two answers, as sets carry them beside their texts
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen-rating", "rejected-rating"),
)


def pair(row: JsonRow) -> Preference | Skipped:
    """Convert `chosen` and `rejected` with the query beside them, or in front of both (TRL's implicit prompt)."""
    _require_scores(row)
    if isinstance(row.fields.get("chosen"), list) or isinstance(row.fields.get("rejected"), list):
        return _conversations(row)
    if not any(field in row.fields for field in (*TEXTS, *CHATS)):
        return _dialogues(row)
    asked_for, texts = query(row), [filled_answer(row, field) for field in ("chosen", "rejected")]
    return labelled(row, asked_for, texts, 0, subset_of(row))


def _require_scores(row: JsonRow) -> None:
    """Refuse a row whose own scores say that the rejected answer is the better one."""
    for chosen, rejected in SCORES:
        better, worse = number(row.fields.get(chosen)), number(row.fields.get(rejected))
        if better is not None and worse is not None and better < worse:
            raise row.error(chosen, f"is {better}, below {worse} of {rejected!r}: two labels", "give one, or remove the row")


def swift(row: JsonRow) -> Preference | Skipped:
    """Convert ms-swift's `messages`, which end in the chosen answer, and `rejected_response` or `rejected_messages`."""
    turns = _answered(row, "messages")
    if "rejected_messages" in row.fields:
        other = _answered(row, "rejected_messages")
        return _same_context(row, turns, other)
    rejected = filled_answer(row, "rejected_response")
    return labelled(row, asked(row, "messages", with_system(row, turns[:-1])), (turns[-1][1], rejected), 0, subset_of(row))


def _conversations(row: JsonRow) -> Preference | Skipped:
    """Convert two lists of messages that end in the answer, and begin with the query or behind it.

    What begins with an assistant's turn, the answer or a call of a tool, stands behind the query of another field. Beside two
    whole conversations that field must say what they say.
    """
    chosen, rejected = (_answered(row, field) for field in ("chosen", "rejected"))
    beside = chat_fields(row)
    before: Turns = []
    if len(chosen) == len(rejected) == 1 or (chosen[0][0].lower() in ANSWERING and (beside or _has_text(row))):
        field, before = query_turns(row)
        asked(row, field, before)
    else:
        context = chosen[:-1]
        whole = [name for name in beside if _is_one_of(row, name, (chosen, rejected))]
        require_said(row, context, "chosen", [name for name in beside if name not in whole])
    return _same_context(row, [*before, *chosen], [*before, *rejected])


def _has_text(row: JsonRow) -> bool:
    return any(name in row.fields for name in TEXTS)


def _is_one_of(row: JsonRow, field: str, conversations: tuple[Turns, ...]) -> bool:
    """Whether a field repeats a conversation with its answer (ultrafeedback_binarized: `messages` is `chosen`)."""
    items = row.fields[field]
    return isinstance(items, list) and messages(row, field, items) in conversations


def _same_context(row: JsonRow, chosen: Turns, rejected: Turns) -> Preference | Skipped:
    if chosen[:-1] != rejected[:-1]:
        return Skipped(reason=CONTEXTS_DIFFER)
    asked_for = asked(row, "chosen", with_system(row, chosen[:-1]))
    return labelled(row, asked_for, (chosen[-1][1], rejected[-1][1]), 0, subset_of(row, "source"))


def _answered(row: JsonRow, field: str) -> Turns:
    """Return a conversation that ends in an answer."""
    items = row.fields.get(field)
    if not isinstance(items, list) or not items:
        raise row.error(field, wrong(items, field in row.fields), "give both as texts, or both as lists of {role, content}")
    turns = messages(row, field, items)
    if turns[-1][0].lower() not in ANSWERING or not turns[-1][1].strip():
        raise row.error(field, "does not end in an answer", "let an assistant's turn with text stand last, or remove the row")
    return turns


def _dialogues(row: JsonRow) -> Preference | Skipped:
    """Convert two whole dialogues in one text each (HH-RLHF), which differ in the last answer."""
    sides = [hh_turns(text) if isinstance(text := row.fields.get(field), str) else [] for field in ("chosen", "rejected")]
    if not all(len(turns) > 1 and turns[-1][0] == "assistant" for turns in sides):
        filled_answer(row, "chosen"), filled_answer(row, "rejected")
        remedy = "give the query as text, or whole dialogues as `\\n\\nHuman: ...\\n\\nAssistant: ...`"
        raise row.error("prompt", "is missing", remedy)
    return _same_context(row, sides[0], sides[1])
