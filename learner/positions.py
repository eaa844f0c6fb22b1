"""How far judgements follow the place of a response and not the response (pure, standard library).

A group asks one preference in several orders. Of its judgements that pick a single best response, with n >= 2 responses:

    consistency    P(two judgements that read different orders pick the same response)
    first_excess   mean of [the picked response stood first] - 1/n

A judge that goes by what it reads has consistency 1, one that guesses 1/n; one that says "the second" with probability p,
whatever it reads, has 2p(1 - p) in the two orders of n = 2. Orders are balanced, so a position bias alone moves the excess.
"""

from dataclasses import dataclass
from itertools import combinations

from buffer.messages import ExperienceGroup, view_numbers


@dataclass(kw_only=True, slots=True)
class PositionStats:
    """Counts over groups."""

    agreeing: int = 0
    """Pairs of picks from different orders that are the same response."""
    pairs: int = 0
    """Pairs of picks from different orders."""
    first: float = 0.0
    """Picks that stood first, less those expected without a position bias."""
    picks: int = 0
    """Judgements that pick a single best response."""

    def add(self, group: ExperienceGroup) -> None:
        """Count a group. One of a single response has no picks."""
        views = view_numbers(group.samples)
        picked = [(view, pick) for view, pick in zip(views, group.picks, strict=True) if pick is not None]
        pairs = [(a, b) for (view, a), (other, b) in combinations(picked, 2) if view != other]
        self.agreeing += sum(a == b for a, b in pairs)
        self.pairs += len(pairs)
        self.first += group.places.count(0) - len(picked) / group.responses
        self.picks += len(picked)

    def metrics(self) -> dict[str, float]:
        """Return the metrics `position/*` of docs/design.md; one without data is missing."""
        metrics = {}
        if self.pairs:
            metrics["position/consistency"] = self.agreeing / self.pairs
        if self.picks:
            metrics["position/first_excess"] = self.first / self.picks
        return metrics
