"""Early stopping of a vote: worked numbers, and that it never changes the best response nor asks for a vote too many."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.benchmarks import table
from grm.voting import Scores, best, credit, vote, votes_due, votes_needed
from tests.grm.judged_items import item


@st.composite
def ballots(draw: st.DrawFn) -> list[Scores | None]:
    """Up to 12 votes on 2..4 responses: some unparsable, some with decimals, many near the ends of the scale."""
    n = draw(st.integers(2, 4))
    score = st.sampled_from([1, 10, 2, 9]) | st.integers(1, 10) | st.decimals(1, 10, places=1).map(float)
    return draw(st.lists(st.none() | st.tuples(*[score] * n), min_size=1, max_size=12))


def cast_in_rounds(votes: Sequence[Scores | None]) -> int:
    """Cast as many of the votes as are due, until none is; return how many were cast."""
    cast = 0
    while due := votes_due(votes[:cast], len(votes) - cast):
        cast += due
    return cast


@pytest.mark.parametrize(
    ("cast", "left", "due"),
    [
        # Of eight, five first: a lead of 45 after five is above the 27 of three, one of 36 after four not above the 36 of four.
        ([], 8, 5),
        ([(10, 1)] * 5, 3, 0),
        # lead 20 after five: after one more 29 at most, above the 18 of two.
        ([(5, 1)] * 5, 3, 1),
        # lead 9 after five: after one more 18 at most, which two can even out.
        ([(5, 1), (5, 1), (2, 1), (5, 5), (5, 5)], 3, 2),
        # lead 0: the last vote decides.
        ([(5, 5)], 1, 1),
        # a lead of 9 before one vote: 1 against 10 would make a tie, so it is due; a lead of 10 is enough.
        ([(10, 1), (5, 5)], 1, 1),
        ([(10, 1), (6, 5)], 1, 0),
        # an unparsable vote took its turn and changes nothing.
        ([(10, 1), None], 1, 1),
        ([None, None], 2, 2),
        # the nearest rival counts: 20 - 11 = 9.
        ([(10, 1, 10), (10, 1, 1)], 1, 1),
        ([(10, 1, 9), (10, 1, 1)], 1, 0),
        ([(10, 1)], 0, 0),
        ([(5, 5)], 0, 0),
    ],
)
def test_votes_due(cast: list[Scores | None], left: int, due: int) -> None:
    assert votes_due(cast, left) == due


def test_the_first_round_is_more_than_half() -> None:
    assert [votes_due([], k) for k in (1, 2, 3, 4, 8, 32)] == [1, 2, 2, 3, 5, 17]


def test_sums_of_decimals_are_compared_as_the_vote_compares_them() -> None:
    assert (1.3 + 9.8) - (1.0 + 1.1) > 9, "in floats"
    cast: list[Scores | None] = [(1.3, 1.0), (9.8, 1.1)]
    assert votes_due(cast, 1) == 1, "1 against 10 is a tie"
    assert votes_needed([*cast, (1, 10)]) == 3


def test_a_single_response_is_never_sure() -> None:
    with pytest.raises(ValueError, match="a single response"):
        votes_due([(9,)], 3)


@given(ballots(), st.data())
def test_whatever_the_spared_votes_would_say_the_best_is_the_same(votes: list[Scores | None], data: st.DataObject) -> None:
    cast = cast_in_rounds(votes)
    if cast < len(votes):
        n = len(next(scores for scores in votes[:cast] if scores))
        other = st.none() | st.tuples(*[st.sampled_from([1, 10, 5.5])] * n)
        spared = data.draw(st.lists(other, min_size=len(votes) - cast, max_size=len(votes) - cast))
        sure, whole = vote(votes[:cast]), vote([*votes[:cast], *spared])
        assert sure is not None
        assert whole is not None
        assert best(sure) == best(whole)
        assert len(best(sure)) == 1, "a tie is never sure: one vote could break it"
        assert all(credit(sure, label) == credit(whole, label) for label in range(n))


@given(ballots())
def test_rounds_cast_not_one_vote_more_than_one_by_one(votes: list[Scores | None]) -> None:
    assert cast_in_rounds(votes) == votes_needed(votes)


@given(ballots())
def test_a_vote_that_is_due_could_change_the_best(votes: list[Scores | None]) -> None:
    """Or leave it open: nobody can be sure one vote earlier than the votes that are due, whatever they say."""
    cast = max(0, cast_in_rounds(votes) - 1)
    totals = vote(votes[:cast])
    if totals is not None:
        left = len(votes) - cast
        first = best(totals)[0]
        against = tuple(1 if response == first else 10 for response in range(len(totals)))
        assert best(vote([*votes[:cast], *[against] * left]) or ()) != (first,)


def test_the_table_holds_what_is_known_and_nothing_else() -> None:
    """Of three votes two were cast on the first pair, all on the second; the parse rate is of those that were cast."""
    sure = replace(item("a", (9, 2), votes=[(10, 1), (10, 1)]), spared=1)
    open_ = item("b", (9, 2), votes=[(10, 1), None, (1, 10)])
    (overall,) = table([sure, open_], ks=[1, 2, 3], resamples=10)
    figures = {name: figure.value for name, figure in overall.figures.items() if "@" in name or name.startswith("vote")}
    assert figures == {
        "vote@3": (1 + 0.5) / 2,
        "vote@3_ties_lost": (1 + 0) / 2,
        "votes_needed@3": (2 + 3) / 2,
        "vote_parse_rate": (1 + 2 / 3) / 2,
        "vote_strict_parse_rate": (1 + 2 / 3) / 2,
        "vote_tokens": 9.0,
    }
    whole = table([item("a", (9, 2), votes=[(10, 1), (10, 1), (1, 10)]), open_], ks=[3], resamples=10)[-1].figures
    assert all(whole[name].value == figures[name] for name in ("vote@3", "vote@3_ties_lost", "votes_needed@3"))


def test_votes_needed_is_of_all_votes() -> None:
    """Five of eight; of the five alone three would do."""
    five = replace(item("a", (9, 2), votes=[(10, 1)] * 5), spared=3)
    assert votes_needed([(10, 1)] * 5) == 3
    assert table([five], ks=[8], resamples=10)[-1].figures["votes_needed@8"].value == 5


def test_items_of_different_numbers_of_votes_are_refused_spared_ones_counted() -> None:
    with pytest.raises(ValueError, match="votes: some items have 2, others 3"):
        table([item("a", (9, 2), votes=[(10, 1)] * 2), item("b", (9, 2), votes=[(10, 1)] * 3)], ks=[2])
