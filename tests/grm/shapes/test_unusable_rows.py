"""Rows that cannot be used: ties are skipped and counted, what is broken is named, what contradicts itself is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from grm.content import CONTRADICTING, GIVEN_AWAY, IDENTICAL, REPEATED
from grm.preference_files import load
from grm.preferences import HALF_RIGHT, TWO_BEST, DataError, Loaded
from grm.shapes.lists import NO_BEST
from tests.grm.shapes.rows import ASK, BAD, GOOD, chat, said, user

FINE = {"prompt": ASK, "chosen": GOOD, "rejected": BAD}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(folder: Path, *rows: dict[str, Any]) -> Loaded:
    """The rows behind two that are fine."""
    fine = [{**FINE, "prompt": f"{ASK} {number}"} for number in range(len(rows) + 1)]
    loaded = load(write(folder, *fine, *rows))
    assert len(loaded.preferences) == len(fine)
    return loaded


TIES: dict[str, tuple[dict[str, Any], str]] = {
    "29 equal scores": ({"prompt": "q", "responses": ["a", "b"], "scores": [3, 3]}, TWO_BEST),
    "33 preferred null": ({"prompt": "q", "responses": ["a", "b"], "preferred": None}, NO_BEST),
    "48 identical responses": ({"prompt": "q", "chosen": "a", "rejected": " a\n"}, IDENTICAL),
    "57 half right": ({"prompt": "q", "responses": ["a"], "scores": [0.5]}, HALF_RIGHT),
    "61 Arena": ({"winner": "tie (bothbad)", "conversation_a": chat("a"), "conversation_b": chat("b")}, TWO_BEST),
    "62 Arena csv": (
        {"prompt": '["q"]', "response_a": '["a"]', "response_b": '["b"]', "winner_model_a": 0, "winner_model_b": 0},
        TWO_BEST,
    ),
    "AlpacaEval": ({"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1.5}, TWO_BEST),
    "HelpSteer2": ({"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 0}, TWO_BEST),
    "HelpSteer3": ({"context": [user("q")], "response1": "a", "response2": "b", "overall_preference": 0}, TWO_BEST),
    "JudgeBench": ({"question": "q", "response_A": "a", "response_B": "b", "label": "A=B"}, TWO_BEST),
    "LLMBar": ({"input": "q", "output_1": "a", "output_2": "b", "label": 0}, TWO_BEST),
    "Nectar": ({"prompt": "q", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 1}]}, TWO_BEST),
    "PandaLM": ({"instruction": "q", "response1": "a", "response2": "b", "label_0": "1", "label_1": "2"}, TWO_BEST),
    "auto-j": ({"prompt": "q", "response 1": "a", "response 2": "b", "label": 2}, TWO_BEST),
}


@pytest.mark.parametrize("name", TIES)
def test_a_row_without_a_best_is_skipped_and_counted(tmp_path: Path, name: str) -> None:
    row, reason = TIES[name]
    loaded = read(tmp_path, row)
    assert loaded.skipped == {reason: 1}
    assert loaded.named[reason][0].endswith("data.jsonl:3")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "06 messages hold the answer": (
        {**FINE, "messages": chat(GOOD)},
        "field 'messages': ends the query with an assistant",
    ),
    "06 a dialogue that ends in an answer": (
        {**FINE, "prompt": f"\n\nHuman: {ASK}\n\nAssistant: Yes"},
        "field 'prompt': ends the query with an assistant",
    ),
    "36 scores NaN": (
        {"prompt": "q", "responses": ["a", "b"], "scores": [float("nan"), 2]},
        "field 'scores': holds nan",
    ),
    "37 scores null": (
        {"prompt": "q", "responses": ["a", "b"], "scores": [None, 2]},
        "field 'scores': holds null",
    ),
    "41 chosen null": (
        {"prompt": "q", "chosen": None, "rejected": "b"},
        "field 'chosen': is null; ",
    ),
    "42 empty rejected": ({"prompt": "q", "chosen": "a", "rejected": ""}, "field 'rejected': is empty"),
    "49 prompt and messages disagree": (
        {**FINE, "messages": [user("Another question.")]},
        "field 'messages': says something else than 'prompt'; give one of the two, or remove the row",
    ),
    "49 prompt beside other conversations": (
        {"prompt": "Another question.", "chosen": chat("a"), "rejected": chat("b")},
        "field 'chosen': says something else than 'prompt'; give one of the two, or remove the row",
    ),
    "49 prompt as messages beside other conversations": (
        {"prompt": [user("Another question.")], "chosen": chat("a"), "rejected": chat("b")},
        "field 'chosen': says something else than 'prompt'",
    ),
    "49 prompt as messages beside other messages": (
        {**FINE, "prompt": [user("Another question.")], "messages": [user()]},
        "field 'messages': says something else than 'prompt'",
    ),
    "49 two texts": (
        {**FINE, "instruction": "Answer.", "prompt": "q", "input": "x"},
        "field 'prompt': says something else than 'instruction'",
    ),
    "49 a field in two spellings": (
        {**FINE, "Chosen": "Another answer."},
        "field 'chosen': stands in it twice, once as 'Chosen', and says two things; keep one",
    ),
    "49 two system texts": (
        {**FINE, "system": "Be brief.", "system_prompt": "Be long."},
        "field 'system': says something else than 'system_prompt'",
    ),
    "49 a system text beside a system turn": (
        {**FINE, "prompt": None, "system": "Be brief.", "messages": [{"role": "system", "content": "Be long."}, user("q")]},
        "field 'system': says something else than the conversation's system turn; give one of the two",
    ),
    "51 two labels in words": (
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "model_b", "label": "A>B"},
        "field 'winner': is 'model_b', and another field says response 0",
    ),
    "51 a winner beside a number": (
        {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1, "winner": "model_b"},
        "field 'winner': is 'model_b', and another field says response 0",
    ),
    "51 a tie beside a strength": (
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 2, "label": "A=B"},
        "field 'label': is 'A=B', and another field says response 1",
    ),
    "51 a label beside scores": (
        {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2], "label": "A>B"},
        "field 'label': is 'A>B', and another field says response 1",
    ),
    "51 a winner beside a tie of scores": (
        {"prompt": "q", "responses": ["a", "b"], "scores": [2, 2], "winner": "model_a"},
        "field 'winner': is 'model_a', and another field says a tie",
    ),
    "51 a label beside an index": (
        {"prompt": "q", "responses": ["a", "b", "c"], "preferred": "C", "label": "A>B"},
        "field 'label': is 'A>B', and another field says response 2",
    ),
    "51 scores against chosen": (
        {**FINE, "score_chosen": "2.5", "score_rejected": 3},
        "field 'score_chosen': is 2.5, below 3 of 'score_rejected': two labels",
    ),
    "51 two labels": (
        {**FINE, "responses": [BAD, GOOD], "preferred": 0},
        "field 'responses': stands beside 'chosen' and 'rejected', which label the row too",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}], "chosen": "a", "rejected": "b"},
        "field 'messages': holds a part that is no text",
    ),
    "an image beside the text": (
        {**FINE, "images": ["a.png"]},
        "field 'images': is there, which no judge is shown; judges read text alone",
    ),
    "a system text that is a list": ({**FINE, "system": ["Be brief."]}, "field 'system': is ..Be brief"),
    "an unknown letter": (
        {"question": "q", "response_A": "a", "response_B": "b", "label": "?"},
        "field 'label': is '\\?'",
    ),
    "an unknown code": ({"input": "q", "output_1": "a", "output_2": "b", "label": 3}, "field 'label': is 3; 1 names the first"),
    "a winner in words": (
        {"winner": "somebody", "conversation_a": chat("a"), "conversation_b": chat("b")},
        "field 'winner': is 'somebody'",
    ),
    "no shape": (
        {"text": "a", "meaning": 3},
        r"the fields that are there \(meaning, text\) are of no shape",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    row, message = BROKEN[name]
    (named,) = read(tmp_path, row).named.values()
    path = tmp_path / "data.jsonl"
    with pytest.raises(DataError, match=message):
        raise DataError(named[0])
    assert named[0].startswith(f"{path}:3: ")
    with pytest.raises(DataError, match=message):
        load(path, strict=True)
    with pytest.raises(DataError, match="2 of 2 rows cannot be read; the first: "):
        load(write(tmp_path, row, row))


def test_99z_the_bad_rows_of_a_file_are_named_up_to_a_number(tmp_path: Path) -> None:
    loaded = read(tmp_path, *({"prompt": f"q{i}", "chosen": "a", "rejected": ""} for i in range(7)))
    assert loaded.skipped == {"unusable field 'rejected'": 7}
    assert [place.split(":")[1] for place in loaded.named["unusable field 'rejected'"]] == ["9", "10", "11", "12", "13"]


def test_67_an_index_that_counts_from_1_ends_the_file(tmp_path: Path) -> None:
    """The rows before it may be wrong by one, too, and nobody would see it."""
    row = {"prompt": "q", "responses": ["a", "b"], "preferred": 1}
    with pytest.raises(
        DataError, match=r"data\.jsonl:2: field 'preferred': is 2, out of range; 2 responses: give 0\.\.1, which"
    ):
        load(write(tmp_path, row, {**row, "preferred": 2}, *({**row, "prompt": f"{i}"} for i in range(9))))


def test_46_ids_that_are_used_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl:2: field 'id': 'a' was used at .*data\.jsonl:1; make ids unique"):
        load(write(tmp_path, {**FINE, "id": "a"}, {**FINE, "id": "a", "prompt": "q"}))


def test_45_a_row_that_is_repeated_counts_once(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, FINE, FINE, FINE))
    assert len(loaded.preferences) == 1
    assert loaded.skipped == {REPEATED: 2}


def test_of_rows_that_contradict_each_other_none_is_used(tmp_path: Path) -> None:
    turned = {"prompt": ASK, "responses": [GOOD, BAD], "preferred": 1}
    loaded = read(
        tmp_path, FINE, turned, {"prompt": "q", "completion": "a", "label": 1}, {"prompt": "q", "completion": "a", "label": 0}
    )
    assert loaded.skipped == {CONTRADICTING: 4}
    assert "contradicted at" in loaded.named[CONTRADICTING][0]


def test_other_criteria_ask_another_question(tmp_path: Path) -> None:
    rows = [
        {"prompt": ASK, "responses": [GOOD, BAD], "preferred": 0, "criteria": "facts"},
        {"prompt": ASK, "responses": [GOOD, BAD], "preferred": 1, "criteria": "brevity"},
    ]
    assert len(load(write(tmp_path, *rows), show=["criteria"]).preferences) == 2
    assert load(tmp_path / "data.jsonl").skipped == {CONTRADICTING: 2}


# ---- a judge that copies what stands in the query --------------------------------------------------------------------


def leaking(number: int, held: str) -> dict[str, Any]:
    """A row whose query holds an answer in one of three ways."""
    good, bad = f"The better answer of row {number}.", f"The worse answer of row {number}."
    text = {"good": good, "bad": bad}[held]
    queries = [f"Question {number}?\nAnswer: {text}", f"Is it so? {text} Explain.", f"Question {number}. {text[:11]} {text}"]
    return {"prompt": queries[number % 3], "chosen": good, "rejected": bad}


def copied(loaded: Loaded) -> float:
    """Accuracy of a judge that names the response in the query, and guesses where there is none."""
    right = [
        next((float(i == p.label) for i, text in enumerate(p.question.responses) if text in p.question.query), 0.5)
        for p in loaded.preferences
    ]
    return sum(right) / len(right)


def test_a_judge_that_copies_scores_chance(tmp_path: Path) -> None:
    fine = [{**FINE, "prompt": f"{ASK} {number}"} for number in range(50)]
    loaded = load(write(tmp_path, *fine, *(leaking(i, "good") for i in range(30))))
    assert loaded.skipped == {GIVEN_AWAY: 30}
    assert loaded.named[GIVEN_AWAY][0].endswith("data.jsonl:51")
    assert copied(loaded) == 0.5


def test_texts_to_be_improved_give_nothing_away(tmp_path: Path) -> None:
    rows = [leaking(i, "good" if i % 2 else "bad") for i in range(30)]
    loaded = load(write(tmp_path, *rows))
    assert (len(loaded.preferences), loaded.skipped) == (30, {})
    assert copied(loaded) == 0.5


def test_a_choice_that_is_offered_gives_nothing_away(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}: Oslo or Bergen?", "chosen": "Oslo", "rejected": "Bergen"} for i in range(9)]
    assert load(write(tmp_path, *rows)).skipped == {}


def test_a_single_response_that_is_right_where_the_query_holds_it_gives_itself_away(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{i}? Key: yes {i}", "completion": f"yes {i}" if i % 2 else "no", "label": bool(i % 2)} for i in range(20)
    ]
    assert load(write(tmp_path, *rows)).skipped == {GIVEN_AWAY: 10}


def test_an_answer_in_an_earlier_turn_gives_the_label_away(tmp_path: Path) -> None:
    good = "Jupiter is the largest of them all."
    turns = [user(), said(good), user("Once more?")]
    rows = [{"messages": [*turns, said("So?"), user(f"Yes, {i}.")], "chosen": good, "rejected": BAD} for i in range(3)]
    assert load(write(tmp_path, FINE, *rows)).skipped == {GIVEN_AWAY: 3}
