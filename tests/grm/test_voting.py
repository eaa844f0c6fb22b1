"""Voting by worked numbers, its symmetries, and the estimator against every subset."""

import math
import random
import time
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.voting import (
    NO_CREDIT,
    Credit,
    Rule,
    Scores,
    average,
    best,
    chosen,
    credit,
    default_k_meta,
    expected_credit,
    guided,
    guided_vote,
    majority,
    subsets,
    unguided,
    vote,
)

JUDGEMENTS = [(8, 6, 8), None, (2, 9, 3), (5, 4, 4)]
META = [0.9, 0.99, 0.1, 0.5]
RULES: dict[str, Rule] = {
    "vote": unguided(vote),
    "average": unguided(average),
    "majority": unguided(majority),
    "guided": guided,
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


def every_subset(judgements: Sequence[Scores | None], meta: Sequence[float], label: int, k: int, rule: Rule) -> Credit:
    """The expectation by its definition."""
    earned = [
        credit(rule([judgements[i] for i in drawn], [meta[i] for i in drawn]), label)
        for drawn in combinations(range(len(judgements)), k)
    ]
    return Credit(lost=sum(c.lost for c in earned) / len(earned), split=sum(c.split for c in earned) / len(earned))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(case=judged(), pick=st.integers(0, 5))
def test_few_subsets_are_all_taken(rule: Rule, case: tuple[list[Scores | None], list[float], int], pick: int) -> None:
    judgements, meta, n = case
    label, k = pick % n, 1 + pick % len(judgements)
    estimate = expected_credit(judgements, meta, label, k, rule, 20, random.Random(0))  # at most C(6, 3) = 20 subsets
    assert estimate == pytest.approx(every_subset(judgements, meta, label, k, rule), abs=1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_drawn_subsets_agree_with_all_of_them(rule: Rule) -> None:
    source = random.Random(5)
    judgements: list[Scores | None] = [
        None if source.random() < 0.2 else (source.randint(1, 6), source.randint(1, 6)) for _ in range(12)
    ]
    meta = [round(source.random(), 1) for _ in judgements]
    expected = every_subset(judgements, meta, 0, 5, rule)  # 792 subsets
    drawn = expected_credit(judgements, meta, 0, 5, rule, 700, random.Random(1))
    assert 0 < expected.lost < 1
    # The standard error of a mean of 700 values in 0..1 is at most 0.5 / sqrt(700) = 0.019.
    assert drawn == pytest.approx(expected, abs=4 * 0.019)
    assert drawn == expected_credit(judgements, meta, 0, 5, rule, 700, random.Random(1))
    assert drawn != expected_credit(judgements, meta, 0, 5, rule, 700, random.Random(2))


def test_one_and_all_draw_nothing() -> None:
    judgements, meta = [(9, 1), None, (4, 4), (2, 6)], [0.0] * 4
    rng = random.Random(3)
    before = rng.getstate()
    # Right, unparsable, tied, wrong; then sums of (15, 11).
    assert expected_credit(judgements, meta, 0, 1, RULES["vote"], 2, rng) == (1 / 4, 1.5 / 4)
    assert expected_credit(judgements, meta, 0, 4, RULES["vote"], 2, rng) == (1.0, 1.0)
    assert rng.getstate() == before


def test_a_subset_of_unparsable_judgements_earns_nothing() -> None:
    # Of the three pairs only the one of two unparsable judgements fails.
    assert expected_credit([(9, 1), None, None], [0.0] * 3, 0, 2, guided, 3, random.Random(0)) == (2 / 3, 2 / 3)
    assert expected_credit([None, None], [0.0] * 2, 0, 1, guided, 3, random.Random(0)) == NO_CREDIT


def test_random_subsets_are_subsets() -> None:
    drawn = list(subsets(32, 4, 50, random.Random(0)))
    assert len(drawn) == 50
    assert all(list(s) == sorted(set(s)) and len(s) == 4 and s[0] >= 0 and s[-1] < 32 for s in drawn)
    assert list(subsets(3, 2, 3, random.Random(0))) == [(0, 1), (0, 2), (1, 2)]


def test_the_estimator_refuses() -> None:
    with pytest.raises(ValueError, match="k = 3 of 2 judgements"):
        expected_credit([(1, 2), None], [0.0] * 2, 0, 3, guided, 5, random.Random(0))
    with pytest.raises(ValueError, match="k = 0 of 2 judgements"):
        expected_credit([(1, 2), None], [0.0] * 2, 0, 0, guided, 5, random.Random(0))
    with pytest.raises(ValueError, match="draws = 0"):
        expected_credit([(1, 2), None], [0.0] * 2, 0, 1, guided, 0, random.Random(0))
    with pytest.raises(ValueError, match="1 meta scores for 2 judgements"):
        expected_credit([(1, 2), None], [0.0], 0, 1, guided, 5, random.Random(0))


def test_the_estimator_is_quick() -> None:
    """400 preferences x k = 1..32 x 100 draws x 2 rules take about 100 times what is timed here."""
    source = random.Random(0)
    start = time.thread_time()
    for _ in range(4):
        judgements = [(source.randint(1, 10), source.randint(1, 10)) for _ in range(32)]
        meta = [source.random() for _ in judgements]
        for k in (1, 2, 4, 8, 16, 32):
            expected_credit(judgements, meta, 0, k, RULES["vote"], 100, source)
            expected_credit(judgements, meta, 0, k, guided, 100, source)
    assert time.thread_time() - start < 3.0  # about 0.1 s on an idle core
