"""How old the groups of a batch are (pure)."""

from collections.abc import Sequence
from statistics import fmean

from buffer.messages import ExperienceGroup


def staleness_metrics(groups: Sequence[ExperienceGroup], version: int) -> dict[str, float]:
    """Return how old the groups of a batch are, in policy versions, when trained from `version` = v.

    With u the version at issue and l the version of a group's newest token: staleness v - u is the sum of in_flight
    = l - u (it passed while the group was generated) and in_queue = v - l (while it waited to be trained on).
    """
    staleness = [version - group.issued_at for group in groups]
    queued = [version - max(versions[-1] for versions in group.versions) for group in groups]
    return {
        "staleness/mean": fmean(staleness),
        "staleness/max": float(max(staleness)),
        "staleness/in_flight": fmean(staleness) - fmean(queued),
        "staleness/in_queue": fmean(queued),
    }
