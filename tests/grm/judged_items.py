"""Judged preferences that several tests make."""

from collections.abc import Sequence

from grm.judged import Item, Sample
from grm.voting import Scores


def sample(scores: Scores | None, order: Sequence[int] | None = None, n: int = 2) -> Sample:
    """A judgement with these scores in the preference's own order; None did not parse."""
    permutation = tuple(order if order is not None else range(n))
    return Sample(scores=scores, permutation=permutation, tokens=9, failure="" if scores else "no_box")


def item(
    name: str,
    *greedy: Scores | None,
    label: int = 0,
    subset: str = "",
    group: str = "",
    lengths: Sequence[int] = (5, 9),
    votes: Sequence[Scores | None] = (),
) -> Item:
    """A preference with its greedy judgements, the second in the opposite order, and its votes."""
    n = len(lengths)
    first, *second = [sample(scores, range(n) if not i else range(n)[::-1], n) for i, scores in enumerate(greedy)]
    voted = tuple(sample(scores, range(n) if not i % 2 else range(n)[::-1], n) for i, scores in enumerate(votes))
    opposite = second[0] if second else None
    return Item(
        id=name, subset=subset, label=label, lengths=tuple(lengths), group=group, greedy=first, opposite=opposite, votes=voted
    )
