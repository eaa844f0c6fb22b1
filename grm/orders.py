"""Orders in which responses are shown: balanced, so that a habit of place cancels. Pure functions.

A permutation maps places to responses: permutation[shown place] = index in the preference's own order.
"""

import random
from collections.abc import Iterator
from itertools import chain, count, islice


def balanced_orders(n: int, orders: int, rng: random.Random) -> list[tuple[int, ...]]:
    """Return orders of n responses in which no response is favoured by its place.

    They are the turns of one random order and their mirror images, in pairs:

        p = (2, 0, 1):   2 0 1 | 1 0 2    0 1 2 | 2 1 0    1 2 0 | 0 2 1    then the same of another random order

    After every pair of orders each two responses have stood both ways round, and after 2n each response has stood in each place
    twice. For n = 2 this is both orders, again and again; up to 2n orders of n >= 3 responses differ.

    Args:
        n: Number of responses, at least 1.
        orders: Number of orders to return.
        rng: Of the random orders.
    """
    return list(islice(chain.from_iterable(_block(n, rng) for _ in count()), orders))


def _block(n: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    drawn = tuple(rng.sample(range(n), n))
    for turn in range(n):
        turned = drawn[turn:] + drawn[:turn]
        yield turned
        yield turned[::-1]
