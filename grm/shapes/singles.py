"""Rows of one answer that is right or wrong, n = 1 (pure)."""

from grm.chat_turns import ANSWERING, messages
from grm.json_rows import JsonRow, wrong
from grm.preferences import NOT_VERIFIABLE, Preference, Skipped
from grm.shapes.fields import answer, asked, labelled, query, score, subset_of, with_system


def kto(row: JsonRow) -> Preference | Skipped:
    """Convert `completion` (or `response`) and `label`: true, right; false, wrong (KTO)."""
    field = "completion" if "completion" in row.fields else "response"
    return _verdict(row, query(row), answer(row, field))


def kto_messages(row: JsonRow) -> Preference | Skipped:
    """Convert `messages` that end in the answer and `label` (ms-swift's KTO)."""
    items = row.fields.get("messages")
    turns = messages(row, "messages", items) if isinstance(items, list) else []
    if len(turns) < 2 or turns[-1][0].lower() not in ANSWERING:
        raise row.error(
            "messages", "does not end in an answer", "let an assistant's turn with text stand last, or remove the row"
        )
    return _verdict(row, asked(row, "messages", with_system(row, turns[:-1])), turns[-1][1])


def openmath(row: JsonRow) -> Preference | Skipped:
    """Convert a row of one generated solution (n = 1) of a MATH or GSM8K problem, checked against the reference answer."""
    correct = row.fields.get("is_correct")
    if not isinstance(correct, bool):
        raise row.error("is_correct", "is not true or false", "use the set as published")
    texts = (row.text("generated_solution", "give the solution"),)
    return labelled(row, row.text("question", "give the question"), texts, int(correct), subset_of(row, "dataset"))


def _verdict(row: JsonRow, asked_for: str, text: str) -> Preference | Skipped:
    value = row.fields.get("label")
    verdict = score(value)
    if verdict is None:
        raise row.error("label", wrong(value, "label" in row.fields), "give true or false")
    if verdict not in (0, 1):
        return Skipped(reason=NOT_VERIFIABLE)
    return labelled(row, asked_for, (text,), int(verdict), subset_of(row))
