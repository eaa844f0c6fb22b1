"""Balanced orders of responses."""

import random
from collections import Counter
from itertools import combinations

import pytest

from grm.orders import balanced_orders, shuffled


def test_shuffling_is_fair_and_seeded() -> None:
    rng = random.Random(3)
    orders = Counter(shuffled(3, rng) for _ in range(6000))
    assert len(orders) == 6
    assert all(850 < count < 1150 for count in orders.values())
    assert shuffled(5, random.Random(1)) == shuffled(5, random.Random(1))


def test_two_responses_are_shown_both_ways_again_and_again() -> None:
    for seed in range(20):
        first, second, third, fourth = balanced_orders(2, 4, random.Random(seed))
        assert {first, second} == {third, fourth} == {(0, 1), (1, 0)}


@pytest.mark.parametrize("n", range(1, 8))
def test_after_a_block_each_response_stood_in_each_place_twice(n: int) -> None:
    orders = balanced_orders(n, 2 * n, random.Random(n))
    places = Counter((place, response) for order in orders for place, response in enumerate(order))
    assert places == {(place, response): 2 for place in range(n) for response in range(n)}


@pytest.mark.parametrize("n", range(2, 8))
def test_after_each_pair_two_responses_stood_both_ways_round(n: int) -> None:
    orders = balanced_orders(n, 2 * n, random.Random(n))
    for one, other in zip(orders[::2], orders[1::2], strict=True):
        for a, b in combinations(range(n), 2):
            assert (one.index(a) < one.index(b)) != (other.index(a) < other.index(b))


@pytest.mark.parametrize("n", range(3, 8))
def test_the_orders_of_a_block_differ_and_the_next_block_is_drawn_anew(n: int) -> None:
    orders = balanced_orders(n, 4 * n, random.Random(0))
    assert len(set(orders[: 2 * n])) == 2 * n
    assert set(orders[: 2 * n]) != set(orders[2 * n :]) or n == 3  # which has six orders in all


def test_orders_depend_on_the_generator_alone_and_more_of_them_begin_with_the_fewer() -> None:
    few, many = (balanced_orders(4, count, random.Random("seed")) for count in (3, 11))
    assert many[:3] == few
    assert len({tuple(balanced_orders(4, 1, random.Random(seed))[0]) for seed in range(200)}) == 24
