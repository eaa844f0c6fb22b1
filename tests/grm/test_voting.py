"""Voting by worked numbers, and its symmetries."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.voting import (
    Credit,
    Rule,
    Scores,
    agree,
    average,
    best,
    chosen,
    credit,
    default_k_meta,
    guided,
    guided_vote,
    majority,
    unguided,
    vote,
    votes_needed,
    weighted,
)

JUDGEMENTS = [(8, 6, 8), None, (2, 9, 3), (5, 4, 4)]
META = [0.9, 0.99, 0.1, 0.5]
RULES: dict[str, Rule] = {
    "vote": unguided(vote),
    "average": unguided(average),
    "majority": unguided(majority),
    "guided": guided,
    "weighted": weighted,
}


@st.composite
def judged(draw: st.DrawFn, most: int = 6) -> tuple[list[Scores | None], list[float], int]:
    """Judgements of 2..4 responses with some unparsable ones, their meta scores with ties, and n."""
    n = draw(st.integers(2, 4))
    scores = st.tuples(*[st.integers(1, 5)] * n)
    judgements = draw(st.lists(st.none() | scores, min_size=1, max_size=most))
    meta = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=len(judgements), max_size=len(judgements)))
    return judgements, meta, n


def test_counting_by_hand() -> None:
    assert vote(JUDGEMENTS) == (15, 19, 15)
    assert average(JUDGEMENTS) == (5.0, 19 / 3, 5.0)
    assert majority(JUDGEMENTS) == (1.5, 1.0, 0.5)  # 1/2 + 0 + 1, 0 + 1 + 0, 1/2 + 0 + 0


def test_a_majority_adds_thirds_and_sixths_exactly() -> None:
    assert 1 / 3 + 1 / 2 + 1 / 6 != 1.0  # in floats
    first = (9, 1, 9, 9, 1, 1), (9, 1, 9, 1, 1, 1), (5, 5, 5, 5, 5, 5)
    assert majority([*first, (1, 9, 1, 1, 1, 1)]) == (1.0, 7 / 6, 1.0, 0.5, 1 / 6, 1 / 6)
    assert majority([(5,) * 5, (5,) * 4 + (1,)]) == (0.45, 0.45, 0.45, 0.45, 0.2)  # 1/5 + 1/4


@pytest.mark.parametrize("count", [vote, average, majority])
def test_nothing_parsed_gives_nothing(count: object) -> None:
    assert callable(count)
    assert count([None, None]) is None
    assert count([]) is None
    assert guided_vote([None], [0.7], 1) is None


@pytest.mark.parametrize("count", [vote, average, majority])
def test_refuses_judgements_of_different_preferences(count: object) -> None:
    assert callable(count)
    with pytest.raises(ValueError, match=r"\[2, 3\] scores"):
        count([(1, 2), None, (1, 2, 3)])


def test_a_single_response_is_summed_too() -> None:
    assert vote([(7,), None, (4,)]) == (11,)


def test_chosen_by_hand() -> None:
    parsed = [True, False, True, True]
    assert chosen(META, parsed, 1) == [0]
    assert chosen(META, parsed, 2) == [0, 3]
    assert chosen(META, parsed, 9) == [0, 2, 3]  # fewer are parsed
    assert chosen([0.5, 0.5, 0.5], [True] * 3, 2) == [0, 1]
    assert chosen([0.1, 0.9, 0.8], [True] * 3, 2) == [1, 2]
    assert chosen([math.nan, 0.2], [False, True], 1) == [1]  # that of an unparsable judgement is not read
    assert chosen([], [], 3) == []


def test_chosen_refuses() -> None:
    with pytest.raises(ValueError, match="k_meta = 0"):
        chosen([0.1], [True], 0)
    with pytest.raises(ValueError, match="1 meta scores for 2"):
        chosen([0.1], [True, True], 1)
    with pytest.raises(ValueError, match="NaN"):
        chosen([0.1, math.nan], [True, True], 1)


def test_guided_vote_by_hand() -> None:
    assert guided_vote(JUDGEMENTS, META, 1) == (8, 6, 8)
    assert guided_vote(JUDGEMENTS, META, 2) == (13, 10, 12)
    assert guided(JUDGEMENTS, META) == (13, 10, 12)  # k = 4: two may vote
    assert [default_k_meta(k) for k in (1, 2, 3, 8, 32)] == [1, 1, 1, 4, 16]


@given(judged(), st.integers(1, 6), st.integers(0, 3))
def test_perfect_meta_scores_select_right_ones_only(
    case: tuple[list[Scores | None], list[float], int], k_meta: int, pick: int
) -> None:
    judgements, _, n = case
    label = pick % n
    right = [scores is not None and best(scores) == (label,) for scores in judgements]
    picked = chosen([float(is_right) for is_right in right], [scores is not None for scores in judgements], k_meta)
    assert sum(right[index] for index in picked) == min(k_meta, sum(right))
    if sum(right) >= k_meta:
        assert credit(guided_vote(judgements, [float(is_right) for is_right in right], k_meta), label) == (1.0, 1.0)


@given(judged(), st.integers())
def test_permuted_responses_permute_the_totals_and_nothing_else(
    case: tuple[list[Scores | None], list[float], int], seed: int
) -> None:
    judgements, meta, n = case
    order = random.Random(seed).sample(range(n), n)
    permuted = [None if scores is None else tuple(scores[own] for own in order) for scores in judgements]
    for rule in RULES.values():
        totals, moved = rule(judgements, meta), rule(permuted, meta)
        assert moved == (None if totals is None else tuple(totals[own] for own in order))
        for label in range(n):
            assert credit(moved, order.index(label)) == credit(totals, label)


@given(judged())
def test_the_average_has_the_best_of_the_vote(case: tuple[list[Scores | None], list[float], int]) -> None:
    summed, mean = vote(case[0]), average(case[0])
    assert (summed is None) == (mean is None)
    if summed is not None and mean is not None:
        assert best(mean) == best(summed)


def test_best_names_ties() -> None:
    assert best((3, 9, 1)) == (1,)
    assert best((9, 1, 9)) == (0, 2)


@pytest.mark.parametrize(
    ("totals", "label", "lost", "split"),
    [
        ((9, 2), 0, 1.0, 1.0),
        ((9, 2), 1, 0.0, 0.0),
        ((5, 5), 1, 0.0, 1 / 2),
        ((5, 5, 1), 2, 0.0, 0.0),
        ((7, 7, 7, 1), 2, 0.0, 1 / 3),
        (None, 0, 0.0, 0.0),
    ],
)
def test_credit(totals: tuple[int, ...] | None, label: int, lost: float, split: float) -> None:
    assert credit(totals, label) == Credit(lost=lost, split=split)


@pytest.mark.parametrize(("totals", "label"), [((5,), 0), ((5,), 1), ((5, 6), 2), ((5, 6), -1), ((), 0)])
def test_credit_refuses_what_has_no_best(totals: tuple[int, ...], label: int) -> None:
    with pytest.raises(ValueError, match=f"label {label} names no best of {len(totals)} responses"):
        credit(totals, label)


def test_weights_are_the_meta_rms_probabilities() -> None:
    # sigma(0) = 1/2, sigma(log 3) = 3/4, sigma(-log 4) = 1/5
    meta = [0.0, math.log(3), math.nan, -math.log(4)]
    assert weighted([(8, 6), (2, 9), None, (10, 5)], meta) == pytest.approx((4 + 1.5 + 2, 3 + 6.75 + 1))
    assert weighted([None], [0.0]) is None
    assert weighted([(8, 6), (2, 9)], [-800.0, 800.0]) == (2.0, 9.0)  # the ends of the scale do not overflow


def test_sums_of_decimals_tie_where_they_are_equal() -> None:
    assert 7.1 + 7.4 != 7.2 + 7.3 or 0.1 + 0.2 != 0.3
    assert best(vote([(7.1, 7.2), (7.4, 7.3)]) or ()) == (0, 1)
    assert best(vote([(0.1, 0.3), (0.2, 0.0)]) or ()) == (0, 1)


@pytest.mark.parametrize(
    ("judgements", "needed"),
    [
        # Of two votes the second can turn a lead of up to 9: of 1 against 10 too, which makes a tie.
        ([(10, 1), (5, 5)], 2),
        # Of three, a lead of 9 + 9 = 18 after two is above the 9 of one vote.
        ([(10, 1), (10, 1), (1, 10)], 2),
        ([(9, 5), (9, 5), (1, 10)], 3),  # 8 is not above 9
        ([(9, 4), (9, 4), (1, 10)], 2),  # 10 is
        ([(10, 1), None, (1, 10)], 3),  # an unparsable vote takes its turn: 9 is not above 9
        ([(5, 5), (5, 5)], 2),
        ([(9, 2)], 1),
        ([None, None], 2),
        ([(10, 5, 1), (10, 4, 1), (1, 2, 10)], 2),  # the nearest rival counts: 20 - 9 = 11
        ([(10, 1, 10), (10, 1, 1), (1, 10, 1)], 3),  # 20 - 11 = 9
    ],
)
def test_votes_needed(judgements: list[Scores | None], needed: int) -> None:
    assert votes_needed(judgements) == needed


@given(judged(), st.data())
def test_what_is_decided_stays_whatever_follows(
    case: tuple[list[Scores | None], list[float], int], data: st.DataObject
) -> None:
    judgements, _, n = case
    cast = votes_needed(judgements, low=1, high=5)
    rest = data.draw(
        st.lists(
            st.none() | st.tuples(*[st.integers(1, 5)] * n), min_size=len(judgements) - cast, max_size=len(judgements) - cast
        )
    )
    decided = vote([*judgements[:cast], *rest])
    if cast < len(judgements):
        assert decided is not None
        assert best(decided) == best(vote(judgements) or ())
        assert len(best(decided)) == 1


def test_judgements_agree_on_a_single_best_alone() -> None:
    assert agree((9, 2), (6, 5))
    assert not agree((9, 2), (2, 9))
    assert not agree((5, 5), (5, 5)), "a tie names no best"
    assert not agree((9, 9, 1), (9, 2, 1))
    assert agree((1, 2, 3), (4, 4, 5))


def test_weights_are_all_alike_at_no_sharpness_and_follow_belief_at_a_high_one() -> None:
    judgements, meta = [(8, 6), (2, 9), None, (10, 5)], [1.0, -1.0, math.nan, 2.0]
    assert weighted(judgements, meta, sharpness=0.0) == (10.0, 10.0), "half of the plain vote"
    assert weighted(judgements, meta, sharpness=100.0) == pytest.approx((18, 11)), "those with z > 0 alone"
