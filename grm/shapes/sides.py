"""Rows of two responses by number or letter and a field that says which is better, each set in its own way (pure)."""

from collections import Counter

from grm.chat_turns import ANSWERING, Turns, messages
from grm.json_rows import JsonRow, wrong
from grm.preferences import CONTEXTS_DIFFER, TWO_BEST, Preference, Skipped, conversation
from grm.shapes.fields import (
    answer,
    asked,
    field_number,
    json_list,
    labelled,
    naming,
    number,
    require_side,
    side,
    sided,
    subset_of,
)

TWO = (
    ("response_a", "response_b"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("output_1", "output_2"),
    ("output_a", "output_b"),
    ("answer_a", "answer_b"),
    ("answer1", "answer2"),
    ("completion_a", "completion_b"),
)

_TURN = "<extra_id_1>"  # HelpSteer2: "user turn\n<extra_id_1>Assistant\nassistant turn\n<extra_id_1>User\n"


def two(row: JsonRow) -> list[str]:
    """Return the two responses, whatever their fields are called."""
    fields = next(names for names in TWO if names[0] in row.fields)
    return [answer(row, field) for field in fields]


def named_side(row: JsonRow) -> Preference | Skipped:
    """Convert two responses and a text that names the better (JudgeBench: `A>B`; PPE: `model_a`)."""
    return sided(row, two(row), side(row, naming(row)), subset_of(row, "source"))


def alpaca_eval(row: JsonRow) -> Preference | Skipped:
    """Convert `preference`: 1 the first, 2 the second; between them a weight of which 1.5 is a tie, as 0 is."""
    value = field_number(row, "preference")
    if value not in (0,) and not 1 <= value <= 2:
        raise row.error("preference", wrong(value, True), "1 names the first output, 2 the second, 0 or 1.5 a tie")
    return sided(row, two(row), None if value in (0, 1.5) else int(value > 1.5))


def one_or_two(row: JsonRow) -> Preference | Skipped:
    """Convert `label`: 1 the first, 2 the second, 0 a tie (LLMBar, OffsetBias)."""
    return sided(row, two(row), _counted(row, "label", row.fields.get("label")))


def pandalm(row: JsonRow) -> Preference | Skipped:
    """Convert what three people said, `label_0` to `label_2`: 1, 2, or 0 for a tie; most of them decide."""
    said = Counter(_counted(row, field, row.fields[field]) for field in sorted(row.fields) if field.startswith("label_"))
    (best, votes), *others = said.most_common()
    best = None if others and others[0][1] == votes else best
    return sided(row, two(row), best, subset_of(row, "motivation_app"))


def pandalm_training(row: JsonRow) -> Preference | Skipped:
    """Convert PandaLM's training rows: `inputs` of instruction and responses, `outputs` of the verdict 1, 2 or Tie."""
    inputs, outputs = row.fields.get("inputs"), row.fields.get("outputs")
    if not isinstance(inputs, dict) or not isinstance(outputs, dict):
        raise row.error("inputs", "is no object beside the object `outputs`", "give the rows as published")
    inner = JsonRow(fields={k: v for k, v in inputs.items() if v is not None}, where=row.where, default_id=row.default_id)
    return sided(inner, two(inner), _counted(row, "outputs", outputs.get("evaluation_result")))


def autoj(row: JsonRow) -> Preference | Skipped:
    """Convert `label`: 0 the first, 1 the second, 2 a tie."""
    value = field_number(row, "label")
    if value not in (0, 1, 2):
        raise row.error("label", wrong(value, True), "0 names the first response, 1 the second, 2 a tie")
    responses = [answer(row, "response 1"), answer(row, "response 2")]
    return sided(row, responses, None if value == 2 else int(value), subset_of(row, "scenario"))


def helpsteer2(row: JsonRow) -> Preference | Skipped:
    """Convert `preference_strength`, -3 to 3: below 0 the first is better. Turns stand in one text, behind <extra_id_1>."""
    strength = field_number(row, "preference_strength")
    require_side(row, None if strength == 0 else int(strength > 0))
    if strength == 0:
        return Skipped(reason=TWO_BEST)
    first, *later = row.filled("prompt", "give the query as text").split(_TURN)
    turns: Turns = [("User", first.strip("\n"))]
    for turn in later:
        role, _, content = turn.partition("\n")
        turns.append((role, content.strip("\n")))
    return labelled(row, asked(row, "prompt", turns), two(row), int(strength > 0), subset_of(row))


def helpsteer3(row: JsonRow) -> Preference | Skipped:
    """Convert `overall_preference`, -3 to 3: below 0 the first is better."""
    strength = field_number(row, "overall_preference")
    return sided(row, two(row), None if strength == 0 else int(strength > 0), subset_of(row, "domain"))


def safe_rlhf(row: JsonRow) -> Preference | Skipped:
    """Convert `better_response_id`, 0 or 1: the more helpful one (`safer_response_id` is another question)."""
    value = field_number(row, "better_response_id")
    if value not in (0, 1):
        raise row.error("better_response_id", wrong(value, True), "give 0 or 1")
    return sided(row, [answer(row, "response_0"), answer(row, "response_1")], int(value))


def arena(row: JsonRow) -> Preference | Skipped:
    """Convert two conversations with one user, of which `winner` names the better (Chatbot Arena, MT-Bench)."""
    best, ends = side(row, "winner"), []
    for field in ("conversation_a", "conversation_b"):
        items = row.fields.get(field)
        turns = messages(row, field, items) if isinstance(items, list) else []
        if len(turns) < 2 or turns[-1][0].lower() not in ANSWERING:
            raise row.error(field, "does not end in an answer", "give the conversation, or remove the row")
        ends.append(turns)
    return _two_conversations(row, ends[0], ends[1], best)


def arena_csv(row: JsonRow) -> Preference | Skipped:
    """Convert Arena's 55k rows: turns as JSON lists in texts, `winner_model_a`, `winner_model_b`, `winner_tie` as 0 and 1."""
    won = [number(row.fields.get(field)) for field in ("winner_model_a", "winner_model_b")]
    if won not in ([1, 0], [0, 1], [0, 0]):
        raise row.error("winner_model_a", wrong(row.fields.get("winner_model_a"), True), "give 1 for the winner, else 0")
    best = None if won == [0, 0] else won.index(1)
    asked_for, *said = (json_list(row, field) for field in ("prompt", "response_a", "response_b"))
    if any(len(answers) != len(asked_for) for answers in said):
        raise row.error("prompt", "has another number of turns than the responses", "remove the row")
    sides = []
    for name, answers in zip(("response_a", "response_b"), said, strict=True):
        turns: Turns = []
        for question, text in zip(asked_for, answers, strict=True):
            turns += [("user", answer(row, "prompt", question, "[]")), ("assistant", answer(row, name, text, "[]"))]
        sides.append(turns)
    return _two_conversations(row, sides[0], sides[1], best)


def _two_conversations(row: JsonRow, first: Turns, second: Turns, best: int | None) -> Preference | Skipped:
    """Return the preference of two conversations. Where several turns differ, the answers are what follows the first query."""
    require_side(row, best)
    if best is None:
        return Skipped(reason=TWO_BEST)
    if first[:-1] == second[:-1]:
        return labelled(row, asked(row, "conversation_a", first[:-1]), (first[-1][1], second[-1][1]), best, subset_of(row))
    users = [[content for role, content in turns if role.lower() not in ANSWERING] for turns in (first, second)]
    if users[0] != users[1] or first[0] != second[0]:
        return Skipped(reason=CONTEXTS_DIFFER)
    return labelled(row, first[0][1], (conversation(first[1:]), conversation(second[1:])), best, subset_of(row))


def _counted(row: JsonRow, field: str, value: object) -> int | None:
    """Return 0 or 1 for a label of 1 or 2, None for a tie: 0 or Tie."""
    if isinstance(value, str) and value.strip().lower() == "tie":
        return None
    found = number(value)
    if found not in (0, 1, 2):
        raise row.error(field, wrong(value, True), "1 names the first response, 2 the second, 0 a tie")
    return None if found == 0 else int(found) - 1
