"""Estimates at k by worked numbers: against every subset, and balanced subsets against what k balanced votes are."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.orders import balanced_orders
from grm.vote_estimates import (
    Subset,
    are_balanced,
    balanced_subsets,
    block_length,
    expected_credit,
    guided_credits,
    subsets,
)
from grm.voting import NO_CREDIT, Credit, Rule, Scores, credit, guided, guided_vote, unguided, vote
from tests.grm.test_voting import RULES, judged


def estimated(
    judgements: Sequence[Scores | None],
    meta: Sequence[float],
    label: int,
    k: int,
    rule: Rule,
    draws: int,
    rng: random.Random,
) -> Credit:
    """Of any k of the judgements."""
    return expected_credit(judgements, meta, label, rule, subsets(len(judgements), k, draws, rng))


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
    estimate = estimated(judgements, meta, label, k, rule, 20, random.Random(0))  # at most C(6, 3) = 20 subsets
    assert estimate == pytest.approx(every_subset(judgements, meta, label, k, rule), abs=1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_drawn_subsets_agree_with_all_of_them(rule: Rule) -> None:
    source = random.Random(5)
    judgements: list[Scores | None] = [
        None if source.random() < 0.2 else (source.randint(1, 6), source.randint(1, 6)) for _ in range(12)
    ]
    meta = [round(source.random(), 1) for _ in judgements]
    expected = every_subset(judgements, meta, 0, 5, rule)  # 792 subsets
    drawn = estimated(judgements, meta, 0, 5, rule, 700, random.Random(1))
    assert 0 < expected.lost < 1
    # The standard error of a mean of 700 values in 0..1 is at most 0.5 / sqrt(700) = 0.019.
    assert drawn == pytest.approx(expected, abs=4 * 0.019)
    assert drawn == estimated(judgements, meta, 0, 5, rule, 700, random.Random(1))
    assert drawn != estimated(judgements, meta, 0, 5, rule, 700, random.Random(2))


def test_one_and_all_draw_nothing() -> None:
    judgements, meta = [(9, 1), None, (4, 4), (2, 6)], [0.0] * 4
    rng = random.Random(3)
    before = rng.getstate()
    # Right, unparsable, tied, wrong; then sums of (15, 11).
    assert estimated(judgements, meta, 0, 1, RULES["vote"], 2, rng) == (1 / 4, 1.5 / 4)
    assert estimated(judgements, meta, 0, 4, RULES["vote"], 2, rng) == (1.0, 1.0)
    assert rng.getstate() == before


def test_a_subset_of_unparsable_judgements_earns_nothing() -> None:
    # Of the three pairs only the one of two unparsable judgements fails.
    assert estimated([(9, 1), None, None], [0.0] * 3, 0, 2, guided, 3, random.Random(0)) == (2 / 3, 2 / 3)
    assert estimated([None, None], [0.0] * 2, 0, 1, guided, 3, random.Random(0)) == NO_CREDIT


def test_random_subsets_are_subsets() -> None:
    drawn = list(subsets(32, 4, 50, random.Random(0)))
    assert len(drawn) == 50
    assert all(list(s) == sorted(set(s)) and len(s) == 4 and s[0] >= 0 and s[-1] < 32 for s in drawn)
    assert list(subsets(3, 2, 3, random.Random(0))) == [(0, 1), (0, 2), (1, 2)]


def test_the_estimator_refuses() -> None:
    with pytest.raises(ValueError, match="k = 3 of 2 judgements"):
        estimated([(1, 2), None], [0.0] * 2, 0, 3, guided, 5, random.Random(0))
    with pytest.raises(ValueError, match="k = 0 of 2 judgements"):
        estimated([(1, 2), None], [0.0] * 2, 0, 0, guided, 5, random.Random(0))
    with pytest.raises(ValueError, match="draws = 0"):
        estimated([(1, 2), None], [0.0] * 2, 0, 1, guided, 0, random.Random(0))
    with pytest.raises(ValueError, match="1 meta scores for 2 judgements"):
        estimated([(1, 2), None], [0.0], 0, 1, guided, 5, random.Random(0))


def test_the_estimator_is_quick() -> None:
    """400 preferences x k = 1..32 x 100 draws x 2 rules take about 100 times what is timed here."""
    source = random.Random(0)
    start = time.thread_time()
    for _ in range(4):
        judgements = [(source.randint(1, 10), source.randint(1, 10)) for _ in range(32)]
        meta = [source.random() for _ in judgements]
        for k in (1, 2, 4, 8, 16, 32):
            estimated(judgements, meta, 0, k, RULES["vote"], 100, source)
            estimated(judgements, meta, 0, k, guided, 100, source)
    assert time.thread_time() - start < 3.0  # about 0.1 s on an idle core


# ---- balanced votes --------------------------------------------------------------------------------------------------


class Bases(random.Random):
    """Gives these random orders, in turn."""

    def __init__(self, *orders: tuple[int, ...]) -> None:
        super().__init__(0)
        self.orders = list(orders)

    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return list(self.orders.pop(0))


def asked(n: int, k: int) -> list[list[tuple[int, ...]]]:
    """The orders of k votes for each outcome of the random orders in them."""
    blocks = -(-k // (2 * n))
    return [balanced_orders(n, k, Bases(*bases)) for bases in product(permutations(range(n)), repeat=blocks)]


def shares(outcomes: Sequence[Sequence[tuple[int, ...]]]) -> dict[tuple[tuple[int, ...], ...], Fraction]:
    """How often votes have which orders, whatever their sequence."""
    counted = Counter(tuple(sorted(orders)) for orders in outcomes)
    return {orders: Fraction(count, len(outcomes)) for orders, count in counted.items()}


def chosen_orders(n: int, size: int, k: int, draw: Callable[[], list[Subset]]) -> list[list[tuple[int, ...]]]:
    return [[orders[i] for i in subset] for orders in asked(n, size) for subset in draw()]


@pytest.mark.parametrize(("n", "size"), [(1, 4), (2, 6), (2, 7), (3, 6), (3, 8), (4, 7), (4, 8)])
def test_k_of_more_balanced_votes_have_the_orders_that_k_balanced_votes_have(n: int, size: int) -> None:
    """Exactly, over all outcomes of the random orders: so an estimate from K votes is what k votes give."""
    for k in range(1, size + 1):
        drawn = chosen_orders(n, size, k, lambda k=k: balanced_subsets(n, size, k, 10**6, random.Random(0)))  # type: ignore[misc]
        assert shares(drawn) == shares(asked(n, k)), k


def test_any_k_of_balanced_votes_are_not_balanced() -> None:
    drawn = chosen_orders(2, 4, 2, lambda: subsets(4, 2, 10**6, random.Random(0)))
    assert shares(drawn) == {
        ((0, 1), (0, 1)): Fraction(1, 6),
        ((0, 1), (1, 0)): Fraction(2, 3),
        ((1, 0), (1, 0)): Fraction(1, 6),
    }
    assert shares(asked(2, 2)) == {((0, 1), (1, 0)): 1}


def test_balanced_subsets_by_hand() -> None:
    def all_of(n: int, size: int, k: int) -> list[Subset]:
        return balanced_subsets(n, size, k, 10**6, random.Random(0))

    assert [all_of(2, 4, k) for k in (1, 2, 3, 4)] == [
        [(0,), (1,), (2,), (3,)],
        [(0, 1), (2, 3)],
        [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)],
        [(0, 1, 2, 3)],
    ]
    assert all_of(2, 5, 3) == [(0, 1, 2), (0, 1, 3), (0, 1, 4), (0, 2, 3), (1, 2, 3), (2, 3, 4)]  # 4 is without its other half
    assert all_of(3, 6, 4) == [(0, 1, 2, 3), (2, 3, 4, 5), (0, 1, 4, 5)]  # round the end of the block
    assert all_of(3, 8, 6) == [(0, 1, 2, 3, 4, 5)]
    assert all_of(5, 6, 4) == [(0, 1, 2, 3), (2, 3, 4, 5)]  # a part of a block has an end
    assert all_of(1, 3, 2) == [(0, 1), (0, 2), (1, 2)]


@given(n=st.integers(1, 5), size=st.integers(1, 40), data=st.data())
def test_drawn_balanced_subsets_are_of_k_different_votes(n: int, size: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, size))
    drawn = balanced_subsets(n, size, k, 3, random.Random(0))
    assert len(drawn) <= (size if k == 1 else 3)
    assert all(list(s) == sorted(set(s)) and len(s) == k and s[0] >= 0 and s[-1] < size for s in drawn)
    orders = balanced_orders(n, size, random.Random(1))
    if k % (2 * n) == 0 and n > 1:
        for subset in drawn:
            places = [Counter(orders[i][place] for i in subset) for place in range(n)]
            assert all(place == dict.fromkeys(range(n), k // n) for place in places), "each in each place as often"


def test_drawn_balanced_subsets_agree_with_all_of_them() -> None:
    source = random.Random(5)
    judgements: list[Scores | None] = [(source.randint(1, 6), source.randint(1, 6)) for _ in range(24)]
    meta = [0.0] * 24
    whole = expected_credit(judgements, meta, 0, unguided(vote), balanced_subsets(2, 24, 7, 10**6, source))
    drawn = expected_credit(judgements, meta, 0, unguided(vote), balanced_subsets(2, 24, 7, 700, source))
    assert 0 < whole.lost < 1
    assert drawn == pytest.approx(whole, abs=4 * 0.019)


def test_a_position_bias_ties_in_every_balanced_pair() -> None:
    """A judge that gives 9 to what stands first and 2 to the other, whatever it reads."""
    orders = balanced_orders(2, 8, random.Random(0))
    judgements = [(9, 2) if order == (0, 1) else (2, 9) for order in orders]
    meta, rng = [0.0] * 8, random.Random(0)
    balanced = expected_credit(judgements, meta, 0, unguided(vote), balanced_subsets(2, 8, 2, 100, rng))
    assert balanced == Credit(lost=0.0, split=0.5)
    # Any two: 6 + 6 of 28 pairs are of one order, and half of those are right.
    assert expected_credit(judgements, meta, 0, unguided(vote), subsets(8, 2, 100, rng)).lost == 6 / 28


def test_balanced_orders_are_known_when_seen() -> None:
    for n, k in ((1, 3), (2, 7), (3, 20), (4, 5)):
        assert are_balanced(balanced_orders(n, k, random.Random(k)))
    assert not are_balanced([(0, 1), (0, 1)])
    assert not are_balanced([(0, 1, 2), (2, 1, 0), (2, 0, 1), (1, 0, 2)])  # the turns go the other way
    assert [block_length(n) for n in (1, 2, 3, 4)] == [1, 2, 6, 8]
    assert are_balanced([])


# ---- how many may vote -----------------------------------------------------------------------------------------------


@given(case=judged(), pick=st.integers(0, 5))
def test_credits_of_each_k_meta_are_those_of_its_guided_vote(
    case: tuple[list[Scores | None], list[float], int], pick: int
) -> None:
    judgements, meta, n = case
    label, k = pick % n, 1 + pick % len(judgements)
    drawn = subsets(len(judgements), k, 10**6, random.Random(0))
    found = guided_credits(judgements, meta, label, drawn)
    for k_meta in range(1, k + 1):
        rule: Rule = lambda votes, meta, k_meta=k_meta: guided_vote(votes, meta, k_meta)  # type: ignore[misc]  # noqa: E731
        assert found[k_meta - 1] == pytest.approx(expected_credit(judgements, meta, label, rule, drawn).split)
