"""How many judgements the meta-RM should let vote: k_meta chosen on one half of the preferences and counted on the other.

    credits of each preference at k_meta = 1..k ─ half A chooses k_meta ─▶ half B earns with it, and the other way round

So no preference has a say in the k_meta that it is counted with. Pure functions.
"""

from collections.abc import Mapping, Sequence
from math import fsum

from grm.mixing import mixing_place


def cross_fitted(credits: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, float]]:
    """Return {preference: (the k_meta that the other half chose, the preference's credit with it)}.

    Args:
        credits: Of each preference by its id, at k_meta = 1..k. With fewer than two of them there is no other half, and nothing
            is returned.
    """
    names = sorted(credits, key=mixing_place)  # an order that has nothing to do with where they stand
    if len(names) < 2:
        return {}
    found: dict[str, tuple[int, float]] = {}
    for half, other in ((names[::2], names[1::2]), (names[1::2], names[::2])):
        k_meta = best_k_meta([credits[name] for name in other])
        found |= {name: (k_meta, credits[name][k_meta - 1]) for name in half}
    return found


def best_k_meta(credits: Sequence[Sequence[float]]) -> int:
    """Return the k_meta with the highest mean credit; of equals, the smallest."""
    means = [fsum(column) / len(credits) for column in zip(*credits, strict=True)]
    return 1 + max(range(len(means)), key=lambda at: (round(means[at], 12), -at))
