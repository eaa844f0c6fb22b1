"""Preferences by what they say, on numbers worked by hand."""

import pytest

from grm.content import (
    GIVEN_AWAY,
    Placed,
    content_id,
    held,
    normalised,
    overlap,
    without_conflicts,
    without_leaks,
)
from grm.preferences import Preference, Question, Skipped


def preference(query: str, *responses: str, label: int = 0, name: str = "x") -> Preference:
    return Preference(question=Question(id=name, query=query, responses=responses), label=label)


def test_an_id_is_that_of_query_and_responses_and_not_of_the_label() -> None:
    question = preference("q", "a", "b").question
    assert content_id(question) == content_id(preference("q", "a", "b", label=1, name="y").question)
    others = [preference("q", "b", "a"), preference("q ", "a", "b"), preference("q", "a", "b", "c")]
    assert content_id(question) not in {content_id(other.question) for other in others}
    assert len(content_id(question)) == 16


@pytest.mark.parametrize(
    ("query", "responses", "place"),
    [
        ("Say it. The moon is made of rock. Now.", ("The moon is made of rock.", "Cheese."), 0),
        ("Say it. The moon  is\nmade of rock. Now.", ("Cheese.", "The moon is made of rock."), 1),
        ("The answer: rock!", ("Cheese", "rock"), 1),
        ("A rock is what?", ("Cheese", "rock"), None),  # short, and not at the end
        ("Cheese or rock", ("Cheese", "rock"), None),  # a choice
        ("Sherlock", ("lock", "key"), None),  # a part of a word
        ("q", ("a", "b"), None),
    ],
)
def test_the_one_response_that_stands_in_a_query(query: str, responses: tuple[str, ...], place: int | None) -> None:
    assert held(preference(query, *responses).question) == place


@pytest.mark.parametrize(("better", "worse", "left"), [(3, 1, 100), (8, 1, 91), (0, 40, 100), (1, 1, 100)])
def test_rows_a_copying_judge_lives_on_are_skipped_where_it_gains_more_than_a_fiftieth(
    better: int, worse: int, left: int
) -> None:
    """Of 100 pairs: (3 - 1) / 2 = 1 gained, which is 0.01; (8 - 1) / 2 = 3.5, 0.035."""
    pairs = [preference(f"{i} so: a", "a", "b") for i in range(better)]
    pairs += [preference(f"{i} so: b", "a", "b") for i in range(worse)]
    pairs += [preference(f"{i}?", "a", "b") for i in range(100 - better - worse)]
    placed: list[Placed] = [(f"f:{i}", pair) for i, pair in enumerate(pairs)]
    found = without_leaks(placed)
    assert sum(isinstance(item, Preference) for _, item in found) == left
    assert {item.reason for _, item in found if isinstance(item, Skipped)} <= {GIVEN_AWAY}


def test_rows_of_equal_content_and_ids_of_their_own_stay() -> None:
    placed: list[Placed] = [("f:1", preference("q", "a", "b", name="x")), ("f:2", preference("q", "a", "b", name="y"))]
    assert without_conflicts(placed) == placed


def test_an_overlap_is_one_of_content() -> None:
    train = [preference("What is  it?", "A cat.", "A dog.", name="t1"), preference("Why?", "So.", "No.", name="t2")]
    heldout = [
        preference("what is it? ", "a dog.", "a CAT.", label=1, name="h1"),
        preference("Why?", "So.", "Never.", name="h2"),
        preference("When?", "So.", "No.", name="h3"),
    ]
    found = overlap(train, heldout)
    assert (found.rows, found.queries) == ([("t1", "h1")], [("t2", "h2")])


def test_forms_of_one_character_are_one() -> None:
    assert normalised("ＡＢＣ  ﬁn\u00a0x") == "abc fin x"
