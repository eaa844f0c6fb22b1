"""Every shape of rows is read as meant: the label at the better answer, and nothing of label or answers in the query."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.json_rows import JsonRow
from grm.preference_files import load, preferences_of
from grm.preferences import Preference
from grm.shapes import table
from grm.shapes.table import SHAPES, Item, Reader, normalised, shape_of
from tests.grm.shapes.rows import ALSO, ASK, BAD, GOOD, PAIRS, SEVERAL, SINGLES, SYSTEM, chat, said, user


def row(fields: dict[str, Any]) -> JsonRow:
    return JsonRow(fields=fields, where="data.jsonl:3", default_id="data:3")


def read(fields: dict[str, Any]) -> list[Preference]:
    found = preferences_of(row(fields))
    assert all(isinstance(item, Preference) for item in found), found
    return [item for item in found if isinstance(item, Preference)]


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_read_with_its_label_at_the_better_answer(name: str) -> None:
    fields, query = PAIRS[name]
    (preference,) = read(fields)
    assert preference.question.query == query
    assert sorted(preference.question.responses) == sorted([GOOD, BAD])
    assert preference.question.responses[preference.label] == GOOD


@pytest.mark.parametrize("name", SINGLES)
def test_a_single_response_is_read_with_its_verdict(name: str) -> None:
    fields, label = SINGLES[name]
    (preference,) = read(fields)
    assert (preference.question.query, preference.question.responses, preference.label) == (ASK, (GOOD,), label)


def filled(value: Any, texts: dict[str, str]) -> Any:
    """A row with other texts in the places of ours."""
    if isinstance(value, str):
        if value.startswith('["'):
            return json.dumps(filled(json.loads(value), texts))
        for ours, other in texts.items():
            value = value.replace(ours, other)
        return value
    if isinstance(value, list):
        return [filled(item, texts) for item in value]
    return {name: filled(item, texts) for name, item in value.items()} if isinstance(value, dict) else value


WORDS = ["amber", "brook", "cedar", "delta", "ember", "flint"]
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)


EVERY = PAIRS | {name: (fields, ASK) for name, (fields, _) in SINGLES.items()} | {n: (row, ASK) for n, row in SEVERAL.items()}


def require_query_alone(name: str, ask: str = "amber", good: str = "brook", bad: str = "cedar") -> None:
    texts = {ASK: f"asked {ask}", GOOD: f"better {good}", ALSO: f"better {good} too", BAD: f"worse {bad}"}
    fields, query = EVERY[name]
    for preference in read(filled(fields, texts)):
        assert preference.question.query == filled(query, texts)
        assert not any(answer in preference.question.query for answer in ("better", "worse"))


@given(name=st.sampled_from([*EVERY]), ask=words, good=words, bad=words)
def test_no_reading_puts_a_label_or_an_answer_into_the_query(name: str, ask: str, good: str, bad: str) -> None:
    """The query is what was asked and no more, whatever the texts are: it is that of the row's texts, filled in."""
    require_query_alone(name, ask, good, bad)


@pytest.mark.parametrize("broken", dict.fromkeys(shape.convert for shape in SHAPES))
def test_a_converter_that_puts_an_answer_into_the_query_is_found(broken: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever converter it is: each reads one of the rows."""

    def leaking(row: JsonRow) -> Item | list[Item]:
        found = broken(row)
        return [told(item) for item in found] if isinstance(found, list) else told(found)

    def told(item: Item) -> Item:
        assert isinstance(item, Preference)
        question = item.question
        return replace(item, question=replace(question, query=f"{question.query} {question.responses[item.label - 1]}"))

    shapes = [replace(shape, convert=leaking) if shape.convert is broken else shape for shape in SHAPES]
    monkeypatch.setattr(table, "SHAPES", shapes)
    with pytest.raises(AssertionError):
        list(map(require_query_alone, EVERY))


def test_rewardbench_2_is_one_right_answer_of_four() -> None:
    fields = {"id": "7", "prompt": ASK, "chosen": [GOOD], "rejected": [BAD, "No.", "42"], "num_correct": 1, "subset": "Math"}
    (preference,) = read(fields)
    assert (preference.question.responses, preference.label) == ((GOOD, BAD, "No.", "42"), 0)
    assert (preference.question.id, preference.subset) == ("7", "Math")


def test_of_a_row_of_ties_each_right_answer_stands_against_all_wrong_ones() -> None:
    fields = {"id": "tied:7", "prompt": ASK, "chosen": [GOOD, ALSO], "rejected": [BAD, "No."], "subset": "Ties"}
    first, second = read(fields)
    assert [first.question.responses, second.question.responses] == [(GOOD, BAD, "No."), (ALSO, BAD, "No.")]
    assert [first.question.id, second.question.id] == ["tied:7.0", "tied:7.1"]
    assert first.label == second.label == 0


def test_rm_bench_is_nine_pairs_of_three_styles() -> None:
    """Styles 0 to 2 go from plain to rich: it is hard where the right answer is the plainer one."""
    right, bad = ["right 0", "right 1", "right 2"], ["bad 0", "bad 1", "bad 2"]
    pairs = read({"id": 7, "prompt": ASK, "chosen": right, "rejected": bad, "domain": "chat", "subset": "alpacaeval"})
    assert [(p.question.id, *p.question.responses, p.subset) for p in pairs] == [
        ("7.0", "right 0", "bad 0", "chat/normal"),
        ("7.1", "right 0", "bad 1", "chat/hard"),
        ("7.2", "right 0", "bad 2", "chat/hard"),
        ("7.3", "right 1", "bad 0", "chat/easy"),
        ("7.4", "right 1", "bad 1", "chat/normal"),
        ("7.5", "right 1", "bad 2", "chat/hard"),
        ("7.6", "right 2", "bad 0", "chat/easy"),
        ("7.7", "right 2", "bad 1", "chat/easy"),
        ("7.8", "right 2", "bad 2", "chat/normal"),
    ]
    assert all(pair.label == 0 for pair in pairs)


def test_63_many_responses() -> None:
    (preference,) = read({"prompt": ASK, "responses": [f"answer {i}" for i in range(40)], "preferred": 3})
    assert (len(preference.question.responses), preference.label) == (40, 3)


def test_65_answers_that_are_numbers() -> None:
    (preference,) = read({"prompt": ASK, "responses": [11, 12.5], "preferred": 1})
    assert preference.question.responses == ("11", "12.5")


def test_a_conversation_that_goes_on_differently_is_judged_as_a_whole() -> None:
    """Arena: the second question stands in both, the first answers differ too."""
    first, second = ([user(), said(text), user("Sure?"), said(f"{text} Yes.")] for text in (GOOD, BAD))
    (preference,) = read({"winner": "model_a", "conversation_a": first, "conversation_b": second})
    assert preference.question.query == ASK
    assert preference.question.responses[0] == f"Assistant: {GOOD}\n\nUser: Sure?\n\nAssistant: {GOOD} Yes."


@pytest.mark.parametrize("field", ["source", "subset"])
def test_the_subset_of_a_set_is_kept(field: str) -> None:
    (preference,) = read({"question": ASK, "response_A": GOOD, "response_B": BAD, "label": "A>B", field: "law"})
    assert preference.subset == "law"


def test_56_shapes_may_be_mixed(tmp_path: Path) -> None:
    rows = [PAIRS["01 prompt chosen rejected"][0], PAIRS["28 scores"][0] | {"prompt": SYSTEM}, SINGLES["59 singular names"][0]]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(fields) + "\n" for fields in rows))
    assert [len(preference.question.responses) for preference in load(path).preferences] == [2, 2, 1]


def test_every_shape_of_the_table_is_met_by_a_row_of_these() -> None:
    met = {shape_of(normalised(row(fields))).name for fields, _ in EVERY.values()}
    assert met == {shape.name for shape in SHAPES}


def test_a_prompt_that_agrees_with_messages_may_stand_beside_them() -> None:
    (preference,) = read({"prompt": ASK, "messages": [user("Hi"), said("Yes?"), user()], "chosen": GOOD, "rejected": BAD})
    assert preference.question.query.startswith("User: Hi")


def test_a_system_text_that_agrees_with_a_system_turn_stands_in_the_query_once() -> None:
    turns = [{"role": "System", "content": f"{SYSTEM}\n"}, user()]
    (preference,) = read({"messages": turns, "system": SYSTEM, "chosen": GOOD, "rejected": BAD})
    assert preference.question.query.count(SYSTEM) == 1


def test_hh_dialogues_of_several_turns() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: "
    (preference,) = read({"chosen": f"{start}{ASK}\n\nAssistant: {GOOD}", "rejected": f"{start}{ASK}\n\nAssistant: {BAD}"})
    assert preference.question.query == f"User: Hi\n\nAssistant: Yes?\n\nUser: {ASK}"
    assert chat(GOOD)[1]["content"] == preference.question.responses[0]
