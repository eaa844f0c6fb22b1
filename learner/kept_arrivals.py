"""What arrived for each step, kept on the run's server until a checkpoint holds the step.

arrived ─ counted once, whatever is claimed again ─▶ key `arrivals` {step: statistics} ─ a checkpoint of the step ─▶ forgotten

A learner that goes back to its checkpoint takes its steps again. It finds what had arrived for each of them, so it reports the
same of it: groups that were filtered have been acknowledged by then, and nobody could count them again.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from buffer.connection import Namespace
from buffer.messages import ExperienceGroup
from buffer.stream_state import Client
from learner.arrivals import ArrivalStats
from learner.positions import PositionStats

KEY = "arrivals"
EARLIER = 0  # in place of a step: groups that were counted for steps that a checkpoint holds, and that are not trained yet


@dataclass(kw_only=True, slots=True)
class Step:
    """What arrived for one step."""

    stats: ArrivalStats = field(default_factory=ArrivalStats)
    """The statistics."""
    groups: list[int] = field(default_factory=list)
    """The groups that they are of."""


class KeptArrivals:
    """The arrivals of the steps that no checkpoint holds. A step is named by the version that it makes."""

    def __init__(self, client: Client, run_id: str) -> None:
        """Read nothing yet."""
        self._space = Namespace(client, run_id)
        self._steps: dict[int, Step] = {}
        self._counted: set[int] = set()

    def load(self) -> None:
        """Read what an earlier process of this learner has counted."""
        flat = self._space.command("HGETALL", self._space.key(KEY))
        rows = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        self._steps = {int(step): _step(json.loads(text)) for step, text in rows}
        self._counted = {group for step in self._steps.values() for group in step.groups}

    def add(self, step: int, groups: Iterable[ExperienceGroup]) -> None:
        """Count groups that arrived, but those that were counted before.

        Args:
            step: that is taken next. A group that was issued at a later version, which is to be reached again, counts for the
                step behind that one: it cannot have arrived before.
            groups: the groups.
        """
        changed = dict[int, None]()
        for group in groups:
            if group.group not in self._counted:
                counts_for = max(step, group.issued_at + 1)
                self._of(counts_for).stats.add(group)
                self._of(counts_for).groups.append(group.group)
                self._counted.add(group.group)
                changed[counts_for] = None
        for each in changed:
            self._write(each)

    def add_dropped(self, step: int, groups: Collection[ExperienceGroup]) -> None:
        """Count groups that were dropped as too stale."""
        if groups:
            self._of(step).stats.dropped_lengths += [len(ids) for group in groups for ids in group.completion_ids]
            self._write(step)

    def stats(self, step: int) -> ArrivalStats:
        """Return what arrived for a step so far."""
        return self._of(step).stats

    def saved(self, version: int, ready: Collection[int]) -> None:
        """Forget the steps that a checkpoint holds.

        Args:
            version: of the checkpoint.
            ready: groups that arrived and are not settled yet; those that were counted stay counted.
        """
        held = [step for step in self._steps if step <= version]
        groups = [group for step in held for group in self._steps.pop(step).groups]
        self._steps[EARLIER] = Step(groups=sorted(set(groups) & set(ready)))
        self._counted = {group for step in self._steps.values() for group in step.groups}
        self._write(EARLIER)
        if gone := [step for step in held if step != EARLIER]:
            self._space.command("HDEL", self._space.key(KEY), *gone)

    def _of(self, step: int) -> Step:
        return self._steps.setdefault(step, Step())

    def _write(self, step: int) -> None:
        self._space.command("HSET", self._space.key(KEY), step, json.dumps(asdict(self._steps[step])))


def _step(row: dict[str, Any]) -> Step:
    stats = dict(row["stats"])
    positions = PositionStats(**stats.pop("positions"))
    return Step(stats=ArrivalStats(**stats, positions=positions), groups=list(row["groups"]))
