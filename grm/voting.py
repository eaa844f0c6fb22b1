"""Inference-time scaling: k judgements of one preference vote, and the result earns credit (arXiv:2504.02495).

    vote                sums the scores per response: their range widens k-fold
    guided_vote         sums the k_meta judgements with the highest meta scores
    weighted            sums all of them, each times the meta-RM's probability that it is right
    average, majority   to compare with
    votes_due           how many votes more before the best can be sure: what early stopping asks for
    votes_needed        of k votes in turn, those after which the best cannot change

Scores are in the preference's own order (`grm.judgement.unshuffle`). None is an unparsable judgement: it casts no vote. If no
judgement parses there is no result, which earns no credit. Pure functions.
"""

from collections.abc import Callable, Sequence
from math import exp, floor, fsum, isnan, lcm
from operator import add
from typing import NamedTuple

Scores = tuple[float, ...]  # integers where the strict reader read them
EXACT = 9  # decimals of a sum of scores that are no integers: 7.1 + 7.4 and 7.2 + 7.3 are a tie
# (k judgements, their k meta scores) -> a total per response; None if no judgement may vote
Rule = Callable[[Sequence[Scores | None], Sequence[float]], tuple[float, ...] | None]


class Credit(NamedTuple):
    """The credit of a result, 0..1."""

    lost: float
    """When a tie for the best counts as wrong."""
    split: float
    """When a tie for the best is split among the tied."""


NO_CREDIT = Credit(lost=0.0, split=0.0)


def vote(judgements: Sequence[Scores | None]) -> tuple[float, ...] | None:
    """Return S*_i = sum over the parsed judgements of S_i. ValueError if they differ in their number of scores."""
    parsed = _parsed(judgements)
    return tuple(round(sum(column), EXACT) for column in zip(*parsed, strict=True)) if parsed else None


def average(judgements: Sequence[Scores | None]) -> tuple[float, ...] | None:
    """Return the mean score per response over the parsed judgements: the order of `vote`, in the range of one judgement."""
    totals = vote(judgements)
    return tuple(total / len(_parsed(judgements)) for total in totals) if totals else None


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

    All the parsed ones are chosen if they are fewer.
    """
    if k_meta < 1:
        raise ValueError(f"k_meta = {k_meta}: let at least one judgement vote")
    return sorted(ranked(meta, parsed)[:k_meta])


def ranked(meta: Sequence[float], parsed: Sequence[bool]) -> list[int]:
    """Return the indices of the parsed judgements, that with the highest meta score first; of equals, the earlier.

    The meta score of an unparsable judgement is not read.
    """
    if len(meta) != len(parsed):
        raise ValueError(f"{len(meta)} meta scores for {len(parsed)} judgements: give one for each")
    eligible = [index for index, is_parsed in enumerate(parsed) if is_parsed]
    if any(isnan(meta[index]) for index in eligible):
        raise ValueError("a meta score is NaN, which has no rank")
    return sorted(eligible, key=lambda index: -meta[index])


def voters(judgements: Sequence[Scores | None], meta: Sequence[float], k_meta: int) -> list[Scores | None]:
    """Return the judgements that may vote by their meta scores, in their order."""
    return [judgements[index] for index in chosen(meta, [scores is not None for scores in judgements], k_meta)]


def guided_vote(judgements: Sequence[Scores | None], meta: Sequence[float], k_meta: int) -> tuple[float, ...] | None:
    """Return the vote of the k_meta parsed judgements with the highest meta scores."""
    return vote(voters(judgements, meta, k_meta))


def weighted(judgements: Sequence[Scores | None], meta: Sequence[float], *, sharpness: float = 1.0) -> tuple[float, ...] | None:
    """Return S*_i = sum over the parsed judgements of sigma(sharpness z) S_i, where z is the meta score, as a rule.

    Sharpness 0 weighs all alike, as `vote` does; 1 by the meta-RM's probability; a high one lets those vote that it believes.
    """
    order = ranked(meta, [scores is not None for scores in judgements])
    parsed = _parsed([judgements[index] for index in order])
    weights = [sigmoid(sharpness * meta[index]) for index in order]
    columns = zip(*parsed, strict=True)
    return tuple(fsum(w * s for w, s in zip(weights, column, strict=True)) for column in columns) if parsed else None


def votes_due(cast: Sequence[Scores | None], left: int, *, low: float = 1, high: float = 10) -> int:
    """Return how many of the votes that are left must be cast, n >= 2, before the single best response can be sure.

        sure:       lead > left (high - low), where lead = S*_best - S*_i of the nearest other i
        after t:    lead + t (high - low) > (left - t) (high - low), if all t are as good for the best as they can be
        so          t = floor((left - lead / (high - low)) / 2) + 1, but 0 once it is sure, and `left` at most

    Whoever casts so many, and asks again, casts `votes_needed` of the k votes, not one more, and gets the best response of all
    k. Example, k = 8: 5 votes first, since a lead of 45 after five is above the 27 of three; if it is 20 then, 1 vote more.

    Args:
        cast: The votes so far; None is an unparsable one.
        left: Votes that are not known yet. They may have any scores of low..high, or none.
        low: The lowest score.
        high: The highest.

    Returns:
        0..left; 0: no vote can change the best.

    Raises:
        ValueError: The votes are of a single response, which has no best: all of them count.
    """
    totals = vote(cast) or (0.0, 0.0)
    if len(totals) < 2:
        raise ValueError("votes of a single response cannot be sure early: each one moves its score")
    return min(left, max(0, floor((left - _lead(totals) / (high - low)) / 2) + 1))


def votes_needed(judgements: Sequence[Scores | None], *, low: float = 1, high: float = 10) -> int:
    """Return after how many of k votes, cast in turn, no votes in low..high that are left can change the single best response.

        sure after j of k:   S*_best - S*_i > (k - j) (high - low)   for each i other than the best

    An unparsable judgement takes its turn and changes nothing. k is returned where the last vote decides, or none.
    """
    k, totals = len(judgements), tuple[float, ...]()
    for cast, scores in enumerate(judgements, start=1):
        if scores is not None:
            totals = tuple(map(add, totals, scores)) if totals else scores
        if len(totals) > 1 and _lead(totals) > (k - cast) * (high - low):
            return cast
    return k


def _lead(totals: Sequence[float]) -> float:
    """Return by how much the highest total is above the next."""
    first, second, *_ = sorted(totals, reverse=True)
    return round(first - second, EXACT)


def agree(one: Scores, other: Scores) -> bool:
    """Return whether two judgements name the same single best response. A tie for the best names none, and agrees with none."""
    return best(one) == best(other) and len(best(one)) == 1


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


def sigmoid(z: float) -> float:
    """Return sigma(z): the probability that the meta score z, a logit, stands for."""
    return 1 / (1 + exp(-z)) if z >= 0 else exp(z) / (1 + exp(z))


def _parsed(judgements: Sequence[Scores | None]) -> list[Scores]:
    parsed = [scores for scores in judgements if scores is not None]
    lengths = set(map(len, parsed))
    if len(lengths) > 1:
        raise ValueError(f"judgements of {sorted(lengths)} scores cannot vote together: all must be of one preference")
    return parsed
