"""Preference files: rows that are read, rows that are skipped and counted, and errors with place, field and remedy."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.content import content_id
from grm.preferences import NOT_VERIFIABLE, TWO_BEST, DataError, Loaded, Preference, Question
from grm.sources import load

PAIR = {"id": "a", "prompt": "2 + 2?", "responses": ["4", "5"], "preferred": 0, "subset": "sums"}


def write(folder: Path, *rows: object) -> str:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(folder: Path, *rows: object) -> Loaded:
    return load(write(folder, *rows))


def test_a_pair(tmp_path: Path) -> None:
    question = Question(id="a", query="2 + 2?", responses=("4", "5"))
    expected = Loaded(preferences=(Preference(question=question, label=0, subset="sums"),), skipped={})
    assert read(tmp_path, PAIR) == expected


def test_scores_with_one_best(tmp_path: Path) -> None:
    row = {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 4.5, 4]}
    (preference,) = read(tmp_path, row).preferences
    assert preference.label == 1
    assert preference.question.id == content_id(preference.question)
    assert preference.subset == ""


def test_ties_for_the_best_are_skipped_and_counted(tmp_path: Path) -> None:
    tie = {"prompt": "q", "responses": ["a", "b"], "scores": [4, 4.0]}
    loaded = read(tmp_path, PAIR, tie, {**tie, "scores": [0, 0]}, {**tie, "scores": [1, 0]})
    assert [preference.label for preference in loaded.preferences] == [0, 0]
    assert loaded.skipped == {TWO_BEST: 2}


def test_single_responses_with_a_verdict(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "responses": ["a"], "scores": [score]} for i, score in enumerate((1, 0, 1.0, True, "0"))]
    found = {preference.question.query: preference.label for preference in read(tmp_path, *rows).preferences}
    assert found == {"q0": 1, "q1": 0, "q2": 1, "q3": 1, "q4": 0}


def test_single_responses_with_ratings_are_not_verdicts_even_where_they_are_1(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["a"], "scores": [score]} for score in (1, 4, 5)]
    loaded = read(tmp_path, PAIR, *rows)
    assert [preference.question.id for preference in loaded.preferences] == ["a"]
    assert loaded.skipped == {NOT_VERIFIABLE: 3}


def test_messages_replace_the_prompt(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    row = {**PAIR, "prompt": "Why?", "messages": [{"role": role, "content": content} for role, content in turns]}
    (preference,) = read(tmp_path, row).preferences
    assert preference.question.query == "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Why?"


def test_rewardbench_rows(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "good", "rejected": "bad", "subset": "chat", "id": 7, "chosen_model": "x"}
    (preference,) = read(tmp_path, row).preferences
    assert preference.question == Question(id="7", query="q", responses=("good", "bad"))
    assert (preference.label, preference.subset) == (0, "chat")


def test_reference_and_criteria_are_read_where_they_are_shown(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"reference": "4, since\ud800", "criteria": "Be right."},
        {"criteria": ["Be right.", "Be brief."]},
        {"reference": None},
    ]
    path = write(tmp_path, *({**PAIR, "id": str(i), **row} for i, row in enumerate(rows)))
    first, second, third = (p.question for p in load(path, show=("reference", "criteria")).preferences)
    assert (first.reference, first.criteria) == ("4, since\ufffd", ("Be right.",))
    assert (second.reference, second.criteria) == ("", ("Be right.", "Be brief."))
    assert (third.reference, third.criteria) == ("", ())
    assert load(path, show=("reference",)).preferences[0].question.criteria == ()


def test_fields_that_are_not_shown_may_hold_anything(tmp_path: Path) -> None:
    row = {**PAIR, "reference": {"a": 1}, "criteria": 7}
    assert read(tmp_path, row) == read(tmp_path, PAIR)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("reference", 42, "field 'reference': is 42; give the reference answer as text"),
        ("reference", " ", "field 'reference': is empty; give the reference answer as text, or remove the row"),
        ("criteria", 7, "field 'criteria': holds 7; give text, or a list of texts"),
        ("criteria", ["be right", {"text": "be brief"}], "field 'criteria': holds {'text': 'be brief'}"),
        ("criteria", [""], "field 'criteria': holds ''"),
    ],
)
def test_fields_that_are_shown_must_be_text(tmp_path: Path, field: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, {**PAIR, field: value}), show=("reference", "criteria"))


def test_limit(tmp_path: Path) -> None:
    path = write(tmp_path, *({**PAIR, "id": str(i)} for i in range(5)))
    every = [preference.question.id for preference in load(path).preferences]
    assert sorted(every) == ["0", "1", "2", "3", "4"]
    assert every == ["4", "3", "0", "1", "2"], "mixed: a file may be sorted"
    assert [preference.question.id for preference in load(path, limit=2).preferences] == every[:2]


def test_blank_lines_bom_and_carriage_returns_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\r\n" + json.dumps(PAIR).encode() + b"\r\n\n")
    assert len(load(str(path)).preferences) == 1


def test_text_that_has_no_utf8_form_is_replaced(tmp_path: Path) -> None:
    (preference,) = read(tmp_path, {**PAIR, "responses": ["a\ud800", "b"]}).preferences
    assert preference.question.responses == ("a\ufffd", "b")


def without(field: str) -> dict[str, object]:
    return {key: value for key, value in PAIR.items() if key != field}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without("prompt"), r"data\.jsonl:2: field 'prompt': is missing; give the query as text"),
        ({**PAIR, "prompt": 3}, "field 'prompt': is 3; give the query as text"),
        ({**PAIR, "prompt": " "}, "field 'prompt': is empty"),
        (without("responses"), "field 'responses': is missing; give a list of texts"),
        ({**PAIR, "responses": []}, r"field 'responses': is \[\]"),
        ({**PAIR, "responses": "4"}, "field 'responses': is '4'"),
        ({**PAIR, "responses": ["4", ""]}, r"field 'responses\[1\]': is empty; .* remove the row"),
        ({**PAIR, "responses": ["4", " \n"]}, r"field 'responses\[1\]': is empty"),
        ({**PAIR, "responses": ["4", None]}, r"field 'responses\[1\]': is null"),
        ({**PAIR, "preferred": 2}, r"field 'preferred': is 2, out of range; 2 responses: give 0\.\.1"),
        ({**PAIR, "preferred": -1}, "field 'preferred': is -1, out of range"),
        ({**PAIR, "preferred": 10**30}, "field 'preferred': is a number of absurd size, out of range"),
        ({**PAIR, "preferred": [0, 1]}, r"field 'preferred': is \[0, 1\]; name the one best"),
        ({**PAIR, "preferred": True}, "field 'preferred': is true; give the index"),
        ({**PAIR, "preferred": "best"}, "field 'preferred': is 'best'; give the index"),
        ({**PAIR, "preferred": 0.5}, r"field 'preferred': is 0\.5; give the index"),
        ({**PAIR, "preferred": "C"}, "field 'preferred': is 'C', out of range"),
        ({**PAIR, "responses": ["4"]}, r"field 'preferred': has no meaning for a single response; give scores"),
        ({**PAIR, "scores": [1, 0]}, "field 'preferred': stands beside 'scores'; give one of them"),
        (without("preferred"), "field 'scores': is missing; give one number per response, or 'preferred'"),
        ({**without("preferred"), "scores": 3}, "field 'scores': is 3"),
        ({**without("preferred"), "scores": [1]}, "field 'scores': has 1 numbers for 2 responses"),
        ({**without("preferred"), "scores": [1, "low"]}, "field 'scores': holds 'low'; give numbers"),
        ({**without("preferred"), "scores": [1, None]}, "field 'scores': holds null; give numbers"),
        ({**without("preferred"), "scores": [1, float("nan")]}, "field 'scores': holds nan; give finite"),
        ({**without("preferred"), "scores": [1, float("inf")]}, "field 'scores': holds inf; give finite"),
        ({**PAIR, "id": ""}, "field 'id': is ''; give text or an integer"),
        ({**PAIR, "id": 1.5}, r"field 'id': is 1\.5"),
        ({**PAIR, "id": True}, "field 'id': is true"),
        ({**PAIR, "messages": []}, r"field 'messages': is \[\]"),
        ({**PAIR, "messages": "hi"}, "field 'messages': is 'hi'"),
        ({**PAIR, "messages": [{"role": "user"}]}, r"field 'messages': holds .*; each message is"),
        ({**PAIR, "messages": ["hi"]}, "field 'messages': holds 'hi'"),
        ({**without("prompt"), "messages": [{"role": "user", "content": " "}]}, "field 'messages': has no text"),
        ({**PAIR, "messages": [{"role": "user", "content": "3 + 3?"}]}, "field 'messages': says something else than 'prompt'"),
        ({"prompt": "q", "chosen": "a"}, "field 'rejected': is missing; give the response as text"),
        ({"prompt": "q", "chosen": "", "rejected": "b"}, "field 'chosen': is empty"),
        ({"prompt": "q", "chosen": ["a"], "rejected": "b"}, "field 'chosen': holds 'a'; each message is"),
        ([1, 2], r"data\.jsonl:2: is \[1, 2\], not an object"),
        ("text", "is 'text', not an object"),
        (None, "is null, not an object"),
        ({**PAIR, "id": "x" * 1001}, "field 'id': has 1001 characters, 1000 are the most; give a shorter one"),
        ({**PAIR, "subset": "x" * 1001}, "field 'subset': has 1001 characters"),
        ({**PAIR, "responses": ["x"] * 1001}, "field 'responses': has 1001 texts, 1000 are the most; remove some"),
        (PAIR, r"data\.jsonl:2: field 'id': 'first' was used at .*data\.jsonl:1; make ids unique"),
    ],
)
def test_a_malformed_row_is_refused_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    first = {**PAIR, "id": "first"}
    with pytest.raises(DataError, match=message):
        read(tmp_path, first, {**PAIR, "id": "first"} if row is PAIR else row)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("text"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
FIELDS = [
    "id",
    "prompt",
    "responses",
    "preferred",
    "scores",
    "messages",
    "chosen",
    "rejected",
    "subset",
    "reference",
    "criteria",
]
rows = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6)
nearly = st.builds(lambda row, field, value: {**PAIR, **row, field: value}, rows, st.sampled_from(FIELDS), anything)


@given(row=rows | nearly | anything)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, row: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    try:
        loaded = load(str(path), show=("reference", "criteria"))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert len(loaded.preferences) + sum(loaded.skipped.values()) == 1
