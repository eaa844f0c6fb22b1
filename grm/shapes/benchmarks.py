"""Rows of benchmarks that have shapes of their own: RMB, ReaLMistake (pure)."""

from grm.chat_turns import messages
from grm.json_rows import JsonRow
from grm.preferences import Preference, Skipped, conversation
from grm.shapes.fields import answer, labelled, subset_of

_AS_PUBLISHED = "use the benchmark as published, or write its rows as .jsonl (docs/data.md)"


def rmb_pair(row: JsonRow) -> Preference | Skipped:
    """Convert a row of RMB's pairwise sets (arXiv:2410.09893)."""
    responses = (_rmb_answer(row, "chosen", row.fields.get("chosen")), _rmb_answer(row, "reject", row.fields.get("reject")))
    return labelled(row, _rmb_query(row), responses, 0, subset_of(row))


def rmb_best_of_n(row: JsonRow) -> Preference | Skipped:
    """Convert the list of a row of RMB's best-of-N sets, the best response first; the paper judges all of them together."""
    losers = row.fields.get("loser_list")
    if not isinstance(losers, list) or not losers:
        raise row.error("loser_list", "is not a list of answers", _AS_PUBLISHED)
    best = _rmb_answer(row, "bon_best", row.fields.get("bon_best"))
    answers = (best, *(_rmb_answer(row, "loser_list", loser) for loser in losers))
    return labelled(row, _rmb_query(row), answers, 0, subset_of(row))


def realmistake(row: JsonRow) -> Preference | Skipped:
    """Convert the single response of a row of ReaLMistake (arXiv:2404.03602): right if people found no error in it.

    The hub's rows have `error_label`, those of the authors' files `label`.
    """
    field = "error_label" if "error_label" in row.fields else "label"
    label = row.text(field, _AS_PUBLISHED)
    if label not in ("error", "no_error"):
        raise row.error(field, f"is {label!r:.40}, neither error nor no_error", _AS_PUBLISHED)
    response = row.text("llm_response", _AS_PUBLISHED)
    return labelled(row, row.text("input", _AS_PUBLISHED), (response,), int(label == "no_error"), subset_of(row))


def _rmb_query(row: JsonRow) -> str:
    turns = row.fields.get("conversation_input")
    if not isinstance(turns, list) or not turns:
        raise row.error("conversation_input", "is not a list of messages", _AS_PUBLISHED)
    return conversation(messages(row, "conversation_input", turns))


def _rmb_answer(row: JsonRow, field: str, value: object) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("answer"), str):
        raise row.error(field, "has no text in its field answer", _AS_PUBLISHED)
    return answer(row, field, value["answer"], ".answer")
