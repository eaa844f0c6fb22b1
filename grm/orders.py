"""Orders in which responses are shown: random, or balanced, so that a position bias cancels. Pure functions.

A permutation maps places to responses: permutation[shown place] = index in the preference's own order.
"""

import random
from collections.abc import Iterator
from itertools import chain, count, cycle, islice


def shuffled(n: int, rng: random.Random) -> tuple[int, ...]:
    """Return a random order of n responses."""
    return tuple(rng.sample(range(n), n))


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


def orders_of_group(n: int, orders: int, samples: int, rng: random.Random, *, start: int = 0) -> list[tuple[int, ...]]:
    """Return the order that each of the `samples` judgements of one preference reads: balanced orders in turn.

    Four judgements of n = 2 in two orders: p, its mirror image, p, its mirror image. n = 1 has one order, n = 2 has two.

    Args:
        n: Number of responses, at least 1.
        orders: Number of orders to take in turn; 1 is one random order for all.
        samples: Number of judgements.
        rng: Of the random order.
        start: Orders passed over at first, by which judgements of another group go on where these end.
    """
    return list(islice(cycle(balanced_orders(n, orders, rng)), start, start + samples))


def _block(n: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    drawn = shuffled(n, rng)
    for turn in range(n):
        turned = drawn[turn:] + drawn[:turn]
        yield turned
        yield turned[::-1]
