"""Inference-time scaling: k judgements of one preference vote, and the result earns credit (arXiv:2504.02495).

    vote                sums the scores per response: their range widens k-fold
    guided_vote         sums the k_meta judgements with the highest meta scores
    average, majority   to compare with

Scores are in the preference's own order (`grm.judgement.unshuffle`). None is an unparsable judgement: it casts no vote. If no
judgement parses there is no result, which earns no credit. Pure functions.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from math import comb, isnan, lcm
from typing import NamedTuple

Scores = tuple[int, ...]
# (k judgements, their k meta scores) -> a total per response; None if no judgement may vote
Rule = Callable[[Sequence[Scores | None], Sequence[float]], tuple[float, ...] | None]


class Credit(NamedTuple):
    """The credit of a result, 0..1."""

    lost: float
    """When a tie for the best counts as wrong."""
    split: float
    """When a tie for the best is split among the tied."""


NO_CREDIT = Credit(lost=0.0, split=0.0)


def vote(judgements: Sequence[Scores | None]) -> tuple[int, ...] | None:
    """Return S*_i = sum over the parsed judgements of S_i. ValueError if they differ in their number of scores."""
    parsed = _parsed(judgements)
    return tuple(map(sum, zip(*parsed, strict=True))) if parsed else None


def average(judgements: Sequence[Scores | None]) -> tuple[float, ...] | None:
    """Return the mean score per response over the parsed judgements: the order of `vote`, in the range of one judgement."""
    parsed = _parsed(judgements)
    return tuple(sum(column) / len(parsed) for column in zip(*parsed, strict=True)) if parsed else None


def majority(judgements: Sequence[Scores | None]) -> tuple[float, ...] | None:
    """Return the votes per response: each parsed judgement gives one vote to its best, in equal parts to the tied best."""
    parsed = _parsed(judgements)
    if not parsed:
        return None
    ballots = [best(scores) for scores in parsed]
    whole = lcm(*map(len, ballots))  # counted in integers: in floats, 1/3 + 1/2 + 1/6 need not equal 1
    totals = [0] * len(parsed[0])
    for ballot in ballots:
        for response in ballot:
            totals[response] += whole // len(ballot)
    return tuple(total / whole for total in totals)


def default_k_meta(k: int) -> int:
    """Return how many of k judgements may vote: half of them, at least one."""
    return max(1, k // 2)


def chosen(meta: Sequence[float], parsed: Sequence[bool], k_meta: int) -> list[int]:
    """Return the indices, ascending, of the k_meta highest meta scores among the parsed judgements; of equals, the earlier.

    All the parsed ones are chosen if they are fewer. The meta score of an unparsable judgement is not read.
    """
    if k_meta < 1:
        raise ValueError(f"k_meta = {k_meta}: let at least one judgement vote")
    if len(meta) != len(parsed):
        raise ValueError(f"{len(meta)} meta scores for {len(parsed)} judgements: give one for each")
    eligible = [index for index, is_parsed in enumerate(parsed) if is_parsed]
    if any(isnan(meta[index]) for index in eligible):
        raise ValueError("a meta score is NaN, which has no rank")
    return sorted(sorted(eligible, key=lambda index: -meta[index])[:k_meta])


def voters(judgements: Sequence[Scores | None], meta: Sequence[float], k_meta: int) -> list[Scores | None]:
    """Return the judgements that may vote by their meta scores, in their order."""
    return [judgements[index] for index in chosen(meta, [scores is not None for scores in judgements], k_meta)]


def guided_vote(judgements: Sequence[Scores | None], meta: Sequence[float], k_meta: int) -> tuple[int, ...] | None:
    """Return the vote of the k_meta parsed judgements with the highest meta scores."""
    return vote(voters(judgements, meta, k_meta))


def best(totals: Sequence[float]) -> tuple[int, ...]:
    """Return the responses with the highest total, ascending: more than one is a tie."""
    highest = max(totals)
    return tuple(index for index, total in enumerate(totals) if total == highest)


def credit(totals: Sequence[float] | None, label: int) -> Credit:
    """Return the credit of totals per response, n >= 2, against the label; no totals earn none.

    `split` is the expected accuracy of the first maximum over shuffled responses, as the paper evaluates.
    """
    if totals is None:
        return NO_CREDIT
    if len(totals) < 2 or not 0 <= label < len(totals):
        raise ValueError(f"label {label} names no best of {len(totals)} responses: give two or more, and a label among them")
    highest = max(totals)
    if totals[label] != highest:
        return NO_CREDIT
    tied = totals.count(highest)
    return Credit(lost=float(tied == 1), split=1 / tied)


def unguided(count: Callable[[Sequence[Scores | None]], tuple[float, ...] | None]) -> Rule:
    """Return `vote`, `average` or `majority` as a rule, which ignores the meta scores."""
    return lambda judgements, meta: count(judgements)


def guided(judgements: Sequence[Scores | None], meta: Sequence[float]) -> tuple[float, ...] | None:
    """Apply `guided_vote`, at its default k_meta, as a rule."""
    return guided_vote(judgements, meta, default_k_meta(len(judgements)))


def guided_average(judgements: Sequence[Scores | None], meta: Sequence[float]) -> tuple[float, ...] | None:
    """Return the `average` of the judgements that vote in `guided`."""
    return average(voters(judgements, meta, default_k_meta(len(judgements))))


def expected_credit(
    judgements: Sequence[Scores | None],
    meta: Sequence[float],
    label: int,
    k: int,
    rule: Rule,
    draws: int,
    rng: random.Random,
) -> Credit:
    """Return the expected credit of `rule` at k, estimated from K >= k judgements of one preference, n >= 2.

        E_k = mean over subsets of k of the K judgements, without replacement, of credit(rule(subset), label)

    The unparsable ones are among the K and are drawn like any other. `subsets` chooses the subsets.
    """
    earned = [credit(totals, label) for totals in outcomes(judgements, meta, k, rule, draws, rng)]
    lost, split = (sum(column) / len(earned) for column in zip(*earned, strict=True))
    return Credit(lost=lost, split=split)


def outcomes(
    judgements: Sequence[Scores | None],
    meta: Sequence[float],
    k: int,
    rule: Rule,
    draws: int,
    rng: random.Random,
) -> Iterator[tuple[float, ...] | None]:
    """Yield the result of `rule` for each of the `subsets` of k judgements of one preference."""
    if len(meta) != len(judgements):
        raise ValueError(f"{len(meta)} meta scores for {len(judgements)} judgements: give one for each")
    for subset in subsets(len(judgements), k, draws, rng):
        yield rule([judgements[index] for index in subset], [meta[index] for index in subset])


def subsets(size: int, k: int, draws: int, rng: random.Random) -> Iterable[Sequence[int]]:
    """Return subsets of k of the indices 0..size-1, each ascending.

    These are `draws` random ones, or all of them, each once, if there are no more than that or k = 1. In that case nothing
    is drawn from `rng`.
    """
    if not 1 <= k <= size:
        raise ValueError(f"k = {k} of {size} judgements: give 1 <= k <= {size}")
    if draws < 1:
        raise ValueError(f"draws = {draws}: draw at least one subset")
    if k == 1 or comb(size, k) <= draws:
        return combinations(range(size), k)
    return (sorted(rng.sample(range(size), k)) for _ in range(draws))


def _parsed(judgements: Sequence[Scores | None]) -> list[Scores]:
    parsed = [scores for scores in judgements if scores is not None]
    lengths = set(map(len, parsed))
    if len(lengths) > 1:
        raise ValueError(f"judgements of {sorted(lengths)} scores cannot vote together: all must be of one preference")
    return parsed
