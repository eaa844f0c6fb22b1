"""How a meta-RM should guide votes, chosen on one half of the preferences and counted on the other: how many it lets vote
(k_meta), or how sharply it weighs them (`SHARPNESS`).

    credits of each preference at each choice ─ half A chooses ─▶ half B earns with it, and the other way round

So no preference has a say in the choice that it is counted with. Pure functions.
"""

from collections.abc import Mapping, Sequence
from math import fsum

from grm.mixing import mixing_place

SHARPNESS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Choices of the sharpness of weighted votes (`grm.voting.weighted`): from all alike to those that the meta-RM believes."""


def cross_fitted(credits: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, float]]:
    """Return {preference: (the number, from 1, of the choice of the other half, the preference's credit with it)}.

    Args:
        credits: Of each preference by its id, at each choice, as k_meta = 1..k. With fewer than two of them there is no other
            half, and nothing is returned.
    """
    names = sorted(credits, key=mixing_place)  # an order that has nothing to do with where they stand
    if len(names) < 2:
        return {}
    found: dict[str, tuple[int, float]] = {}
    for half, other in ((names[::2], names[1::2]), (names[1::2], names[::2])):
        choice = best_choice([credits[name] for name in other])
        found |= {name: (choice, credits[name][choice - 1]) for name in half}
    return found


def best_choice(credits: Sequence[Sequence[float]]) -> int:
    """Return the number, from 1, of the choice with the highest mean credit; of equals, the first."""
    means = [fsum(column) / len(credits) for column in zip(*credits, strict=True)]
    return 1 + max(range(len(means)), key=lambda at: (round(means[at], 12), -at))
