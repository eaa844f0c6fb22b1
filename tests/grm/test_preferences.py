"""Preferences as values, and the functions that every reader of them needs."""

import pytest

from grm.preferences import DataError, Loaded, Preference, Question, Skipped, clean, collect, conversation


def preference(id_: str) -> Preference:
    return Preference(question=Question(id=id_, query="q", responses=("x", "y")), label=0)


def test_values_that_are_no_preference_cannot_be_built() -> None:
    with pytest.raises(DataError, match="no responses"):
        Question(id="a", query="q", responses=())
    with pytest.raises(DataError, match=r"label 2 is not in 0\.\.1"):
        Preference(question=Question(id="a", query="q", responses=("x", "y")), label=2)
    with pytest.raises(DataError, match=r"label 2 is not in 0\.\.1"):
        Preference(question=Question(id="a", query="q", responses=("x",)), label=2)


def test_skipped_rows_are_counted() -> None:
    placed = [("1", Skipped(reason="tie")), ("2", preference("a")), ("3", Skipped(reason="tie")), ("4", preference("b"))]
    assert collect(placed) == Loaded(preferences=(preference("a"), preference("b")), skipped={"tie": 2})


def test_an_id_that_is_used_twice_is_refused_with_both_places() -> None:
    with pytest.raises(DataError, match="file:4: field 'id': 'a' was used at file:2"):
        collect([("file:2", preference("a")), ("file:4", preference("a"))])


def test_a_lone_message_is_its_content_and_several_are_named_turns() -> None:
    assert conversation([("user", "Why?")]) == "Why?"
    assert conversation([("user", "Hi"), ("assistant", "Hello")]) == "User: Hi\n\nAssistant: Hello"


def test_lone_surrogates_are_replaced_and_other_text_is_kept() -> None:
    assert clean("a\ud800b\udfff") == "a\ufffdb\ufffd"
    assert clean("Straße 東京 \U0001f600") == "Straße 東京 \U0001f600"
