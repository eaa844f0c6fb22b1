"""What k votes are worth, estimated from the K >= k votes that were sampled. Pure functions.

subsets            any k of the K: what drawn orders give, each vote in an order of its own (arXiv:2504.02495)
balanced_subsets   k of the K whose orders are those of `balanced_orders(n, k)`: what somebody gets who asks for k
expected_credit    the mean credit of a rule over such subsets
guided_credits     the same of guided votes, for each number of them that may vote
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import comb

from grm.voting import Credit, Rule, Scores, credit, ranked, vote

Subset = tuple[int, ...]  # indices of votes, ascending


def expected_credit(
    judgements: Sequence[Scores | None], meta: Sequence[float], label: int, rule: Rule, drawn: Iterable[Subset]
) -> Credit:
    """Return the expected credit of `rule` at k, estimated from K >= k judgements of one preference, n >= 2.

        E_k = mean over the drawn subsets of k of the K judgements of credit(rule(subset), label)

    The unparsable ones are among the K and are drawn like any other.
    """
    earned = [credit(totals, label) for totals in outcomes(judgements, meta, rule, drawn)]
    lost, split = (sum(column) / len(earned) for column in zip(*earned, strict=True))
    return Credit(lost=lost, split=split)


def outcomes(
    judgements: Sequence[Scores | None], meta: Sequence[float], rule: Rule, drawn: Iterable[Subset]
) -> Iterator[tuple[float, ...] | None]:
    """Yield the result of `rule` for each of the drawn subsets of the judgements of one preference."""
    if len(meta) != len(judgements):
        raise ValueError(f"{len(meta)} meta scores for {len(judgements)} judgements: give one for each")
    for subset in drawn:
        yield rule([judgements[index] for index in subset], [meta[index] for index in subset])


def guided_credits(
    judgements: Sequence[Scores | None], meta: Sequence[float], label: int, drawn: Sequence[Subset]
) -> list[float]:
    """Return, for k_meta = 1..k, the expected credit (ties split) of the guided vote of k_meta of k judgements, n >= 2."""
    k = len(drawn[0])
    sums = [0.0] * k
    for subset in drawn:
        order = ranked([meta[i] for i in subset], [judgements[i] is not None for i in subset])
        earned, totals = 0.0, tuple[float, ...]()
        for k_meta in range(1, k + 1):
            if k_meta <= len(order):  # beyond, all that parsed vote already
                scores = judgements[subset[order[k_meta - 1]]]
                totals = vote([totals or None, scores]) or ()
                earned = credit(totals, label).split
            sums[k_meta - 1] += earned
    return [total / len(drawn) for total in sums]


def subsets(size: int, k: int, draws: int, rng: random.Random) -> list[Subset]:
    """Return subsets of k of the indices 0..size-1.

    These are `draws` random ones, or all of them, each once, if there are no more than that or k = 1. In that case nothing
    is drawn from `rng`.
    """
    _check(size, k, draws)
    if k == 1 or comb(size, k) <= draws:
        return list(combinations(range(size), k))
    return [tuple(sorted(rng.sample(range(size), k))) for _ in range(draws)]


def balanced_subsets(n: int, size: int, k: int, draws: int, rng: random.Random) -> list[Subset]:
    """Return subsets of k of `size` votes of n responses, asked for in the orders of `balanced_orders(n, size)`.

    Those orders are blocks of 2n (n = 2: of 2, n = 1: of 1), each the turns of a random order with their mirror images. With
    k = q blocks + r, who asks for k gets q whole blocks and r votes of another. A block's order is random, and its turns start
    anywhere; so what would have been asked for is as likely to be each of these:

        q of the whole blocks; and of one more block r // 2 pairs of successive turns, and if r is odd a vote of a pair beside

        n = 2, K = 4: votes 0 1 | 2 3     k = 1: 0, 1, 2, 3     k = 2: 01, 23     k = 3: 012, 013, 023, 123

    Returns:
        `draws` random ones, or all of them, each once, if there are no more than that or k = 1; then nothing is drawn from
        `rng`.
    """
    _check(size, k, draws)
    block = block_length(n)
    whole, (q, r) = size // block, divmod(k, block)
    blocks = [tuple(range(start, start + block)) for start in range(0, whole * block, block)]
    parts = [(at, part) for at, votes in enumerate(blocks) for part in _parts(votes, r, turning=True)]
    parts += [(whole, part) for part in _parts(tuple(range(whole * block, size)), r, turning=False)]

    def joined(taken: Sequence[int], part: Subset) -> Subset:
        return tuple(sorted([*part, *(index for at in taken for index in blocks[at])]))

    def rest(taken: Sequence[int]) -> list[Subset]:
        return [part for at, part in parts if at not in taken] if r else [()]

    if k == 1 or comb(whole, q) * len(rest(range(q))) <= draws:
        return [joined(taken, part) for taken in combinations(range(whole), q) for part in rest(taken)]
    taken_blocks = [rng.sample(range(whole), q) for _ in range(draws)]
    return [joined(taken, rng.choice(rest(taken))) for taken in taken_blocks]


def block_length(n: int) -> int:
    """Return after how many of the `balanced_orders` of n responses they are balanced in each place: 2n, for n = 2 both."""
    return n if n <= 2 else 2 * n


def are_balanced(orders: Sequence[tuple[int, ...]]) -> bool:
    """Return whether orders of the same responses are such as `balanced_orders` gives."""
    for at, order in enumerate(orders):
        base = orders[at - at % (2 * len(order))]
        turn = at % (2 * len(order)) // 2
        turned = base[turn:] + base[:turn]
        if order != (turned[::-1] if at % 2 else turned):
            return False
    return True


def _parts(votes: Subset, r: int, *, turning: bool) -> list[Subset]:
    """Return the choices of r of the votes of a block that stand as the first r of a block do (round its end if `turning`).

    Those are successive pairs, and if r is odd the first vote of the next pair. Read from its end, with the mirror image first
    in each pair, a block is a block too: hence the second vote of the pair before them as well.
    """
    pairs = [votes[at : at + 2] for at in range(0, len(votes), 2)]
    found = []
    for single, line in enumerate((pairs, pairs[::-1]) if r % 2 else (pairs,)):
        for start in range(len(line)):
            following = (line[start:] + (line[:start] if turning else []))[: (r + 1) // 2]
            part = [index for pair in following[: r // 2] for index in pair]
            part += [index for pair in following[r // 2 :] for index in pair[single : single + 1]]
            if len(part) == r:
                found.append(tuple(part))
    return found if r else []


def _check(size: int, k: int, draws: int) -> None:
    if not 1 <= k <= size:
        raise ValueError(f"k = {k} of {size} judgements: give 1 <= k <= {size}")
    if draws < 1:
        raise ValueError(f"draws = {draws}: draw at least one subset")
