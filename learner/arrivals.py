"""Statistics of the groups that arrived, trained on or not, so that selection biases none of them (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles

from buffer.messages import ExperienceGroup
from learner.positions import PositionStats


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivalsReport:
    """What arrived since the last step, where no step was taken for a while as there is nothing to learn from."""

    version: int
    """Policy version, that of the last step."""
    groups: int
    """Groups that arrived, all of them uninformative."""
    metrics: dict[str, float]
    """`reward/*`, `parse/*`, `length/*` and `position/*` of these groups."""


@dataclass(kw_only=True, slots=True)
class ArrivalStats:
    """What arrived for one step."""

    rewards: list[float] = field(default_factory=list)
    """Of each completion."""
    lengths: list[int] = field(default_factory=list)
    """Tokens of each completion."""
    truncated: int = 0
    """Completions that ended at the token limit."""
    failures: int = 0
    """Completions that did not parse."""
    groups: int = 0
    """Groups."""
    solved_all: int = 0
    """Groups whose completions were all right."""
    solved_none: int = 0
    """Groups whose completions were all wrong."""
    dropped_lengths: list[int] = field(default_factory=list)
    """Tokens of each completion of the groups that were dropped as too stale."""
    positions: PositionStats = field(default_factory=PositionStats)
    """What was picked, and where it stood."""

    def add(self, group: ExperienceGroup) -> None:
        """Count a group that arrived."""
        self.groups += 1
        self.rewards += group.rewards
        self.lengths += map(len, group.completion_ids)
        self.truncated += sum(group.truncated)
        self.positions.add(group)
        self.failures += sum(1 for reason in group.failures if reason)
        if not group.informative:
            self.solved_all += group.rewards[0] > 0
            self.solved_none += group.rewards[0] <= 0

    @property
    def informative(self) -> int:
        """Groups whose rewards differ."""
        return self.groups - self.solved_all - self.solved_none

    def metrics(self) -> dict[str, float]:
        """Return the metrics `reward/*`, `parse/*`, `length/*` and `position/*` of docs/design.md; those without data are
        missing."""
        metrics = self.positions.metrics()
        if self.groups:
            metrics |= {
                "reward/mean": fmean(self.rewards),
                "reward/solved_all": self.solved_all / self.groups,
                "reward/solved_none": self.solved_none / self.groups,
                "parse/failure_rate": self.failures / len(self.rewards),
                "length/truncated_fraction": self.truncated / len(self.lengths),
                "length/completion_p50": percentile(self.lengths, 50),
                "length/completion_p95": percentile(self.lengths, 95),
            }
        if self.dropped_lengths:
            metrics["length/dropped"] = fmean(self.dropped_lengths)
        return metrics


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` (1..99) per cent of `values` do not exceed, interpolated between neighbours.

    Example:
        >>> percentile([1, 2, 3, 4, 5], 50), percentile([1, 2, 3, 4, 5], 95)
        (3.0, 4.8)
    """
    return float(quantiles(values, n=100, method="inclusive")[percent - 1]) if len(values) > 1 else float(values[0])
