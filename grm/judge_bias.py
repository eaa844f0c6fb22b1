"""What a judge favours beside the better response: length and place. Pure functions.

They are of the judgements of one preference of n >= 2 responses. A tie for the best is split among the tied; an unparsable
judgement favours nothing.
"""

from collections.abc import Sequence
from statistics import fmean

from grm.judged import Sample
from grm.voting import Scores, best, credit


def bias(samples: Sequence[Sample], lengths: Sequence[int], label: int) -> dict[str, float]:
    """Return the values of one preference, by the names of `grm.benchmarks`.

    picks_longest      how often the judge's best is the longest response: compare it with `longest`, how often it is the label
    picks_first        how often its best was shown first: 1/n where no place is favoured
    greedy_longest, greedy_shortest
                       accuracy where the best response is the one longest, or the one shortest
    """
    values: dict[str, float] = {}
    if parsed := [sample for sample in samples if sample.scores is not None]:
        longest = frozenset(i for i, length in enumerate(lengths) if length == max(lengths))
        values["picks_longest"] = fmean(share_of(sample.scores, longest) for sample in parsed)
        if shown := [sample for sample in parsed if not sample.alone]:
            values["picks_first"] = fmean(share_of(sample.scores, {sample.permutation[0]}) for sample in shown)
    for name, extreme in (("greedy_longest", max(lengths)), ("greedy_shortest", min(lengths))):
        if lengths[label] == extreme and list(lengths).count(extreme) == 1:
            values[name] = fmean(credit(sample.scores, label).split for sample in samples)
    return values


def share_of(scores: Scores | None, responses: frozenset[int] | set[int]) -> float:
    """Return the share of the best responses that is among `responses`; 0 for no scores.

    >>> share_of((7, 9, 9), {1})
    0.5
    """
    chosen = best(scores) if scores is not None else []
    return sum(response in responses for response in chosen) / len(chosen) if chosen else 0.0


def both_orders(samples: Sequence[Sample], label: int) -> float:
    """Return JudgeBench's verdict on a preference that was judged in both orders: 1 if it is right more often than wrong.

    So both agree on the right response, or one names it and the other ties or does not parse (arXiv:2410.12784).
    """
    balance = 0
    for sample in samples:
        chosen = best(sample.scores) if sample.scores is not None else []
        balance += (list(chosen) == [label]) - (len(chosen) == 1 and label not in chosen)
    return float(balance > 0)
