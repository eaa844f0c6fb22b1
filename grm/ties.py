"""The Ties of RewardBench 2: questions with one right answer (`ref`), and the same with several (`tied`). Pure functions.

A judge should score every right answer above every wrong one, and tell right ones apart by less than right from wrong
(arXiv:2506.01937). Over the prompts that have both kinds, where spread = the best right answer - the worst right one of `tied`,
and gap = the worst right answer - the best wrong one:

    0.3 share of `tied` with gap > 0  +  0.3 share of `ref` with gap > 0  +  0.2 share of gap_tied > spread
    + 0.2 share of min(gap_ref, gap_tied) > spread  +  0.01 mean of tanh(min(gap_ref, gap_tied) / spread - 1)

The last term makes it 1.01 at most. Here each right answer is judged beside all wrong ones in a list of its own, so a gap is
the smallest of those lists.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import copysign, tanh
from random import Random
from statistics import fmean

from grm.judged import Item
from grm.statistics import MOST_AREA_RESAMPLES, Figure, percentiles
from grm.voting import vote

UNPARSED = -1e9  # of a gap: below every other
_ID = re.compile(r"(?:^|\W)(ref|tied):(\d+)(?:\.\d+)?$")


@dataclass(frozen=True, slots=True)
class Answers:
    """The judged answers to one prompt: a right one and the best wrong one of each list that was judged."""

    pairs: tuple[tuple[float, float] | None, ...]
    """(score of the right answer, highest score of a wrong one); None: not parsed."""

    @property
    def gap(self) -> float:
        """The worst right answer over the best wrong one beside it; UNPARSED where a list did not parse."""
        return min(pair[0] - pair[1] if pair else UNPARSED for pair in self.pairs)

    @property
    def spread(self) -> float:
        """The best right answer over the worst right one."""
        right = [pair[0] for pair in self.pairs if pair]
        return max(right) - min(right) if right else 0.0


def answers_of(items: Iterable[Item]) -> dict[tuple[str, int], Answers]:
    """Return {(ref or tied, number of the prompt): its answers}; items whose ids are of another form are passed over.

    Scores are the means of the greedy judgements, in both orders where there are two.
    """
    pairs: dict[tuple[str, int], list[tuple[float, float] | None]] = {}
    for item in items:
        if not (found := _ID.search(item.id)):
            continue
        parsed = [sample.scores for sample in item.at_zero if sample.scores is not None]
        totals = vote(parsed)
        scores = [total / len(parsed) for total in totals] if totals else None
        pair = (scores[item.label], max(s for i, s in enumerate(scores) if i != item.label)) if scores else None
        pairs.setdefault((found[1], int(found[2])), []).append(pair)
    return {name: Answers(tuple(own)) for name, own in pairs.items()}


def score(answers: Mapping[tuple[str, int], Answers], numbers: Sequence[int]) -> float:
    """Return the score of Ties over prompts with these numbers, which may repeat; at least one has both kinds."""
    ref = [answers["ref", number] for number in numbers if ("ref", number) in answers]
    tied = [answers["tied", number] for number in numbers if ("tied", number) in answers]
    both = [(answers["ref", n], answers["tied", n]) for n in numbers if ("ref", n) in answers and ("tied", n) in answers]
    margins = [_margin(min(r.gap, t.gap), t.spread) for r, t in both]
    return (
        0.3 * (fmean(each.gap > 0 for each in tied) if tied else 0.0)
        + 0.3 * (fmean(each.gap > 0 for each in ref) if ref else 0.0)
        + 0.2 * (fmean(t.gap > t.spread for _, t in both) if both else 0.0)
        + 0.2 * (fmean(min(r.gap, t.gap) > t.spread for r, t in both) if both else 0.0)
        + 0.01 * (fmean(margins) if both else 0.0)
    )


def _margin(gap: float, spread: float) -> float:
    """Return tanh(gap / spread - 1), and its limit where right answers have one score: the sign of the gap."""
    return tanh(gap / spread - 1) if spread else copysign(1.0, gap) if gap else 0.0


def ties_figure(items: Iterable[Item], *, resamples: int, rng: Random) -> Figure | None:
    """Return the score of Ties with its bootstrap interval over prompts; None where no prompt has both kinds."""
    answers = answers_of(items)
    numbers = sorted({number for _, number in answers})
    if not any(("ref", n) in answers and ("tied", n) in answers for n in numbers):
        return None
    drawn = (rng.choices(numbers, k=len(numbers)) for _ in range(min(resamples, MOST_AREA_RESAMPLES)))
    low, high = percentiles([score(answers, each) for each in drawn])
    return Figure(value=score(answers, numbers), low=low, high=high, rows=len(answers))
