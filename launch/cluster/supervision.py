"""The supervision loop: every actor group works in slices that return values, and gets the next slice when one ends.

work, step, drain ─▶ [ the group works for a second ] ─▶ poll: take its report; the driver gives it the next slice
                         └── dies, or does not get ready ─▶ replaced, as often as `Tries` allows ─▶ RunFailed, its own error
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from launch.cluster import calls
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.failures import CallFailed
from launch.cluster.tries import Tries
from launch.monitoring.console import ShowActivity, show_nothing

PLACE_S = 20.0  # by then Ray has placed the actors that it can place


class SupervisedGroup:
    """A group whose actors are all given the same slice; it is over when all of them have answered."""

    def __init__(
        self, group: ActorGroup, *, on_report: Callable[[Any], None], restarts: int, note: Callable[[str], None]
    ) -> None:
        """Takes over a group that was begun.

        Args:
            group: The actors.
            on_report: Gets the report of the first actor after each slice, unless it is None.
            restarts: Deaths that are mended; see `Tries`.
            note: Gets a log line about each death.
        """
        self.group = group
        self._on_report, self._note = on_report, note
        self._tries = Tries(group.name, restarts)
        self._slice: list[Any] = []
        self._completions = 0  # of a worker, in all its slices
        self._point: Callable[[Any], int] = lambda report: 0  # how far a report of the slice under way says that it is

    @property
    def name(self) -> str:
        """The group's name."""
        return self.group.name

    @property
    def replaced(self) -> int:
        """Deaths that were mended so far."""
        return self._tries.mended

    @property
    def pending(self) -> list[Any]:
        """The calls that it has yet to answer: a slice, or that it is ready."""
        return self._slice or self.group.ready_calls

    def work(self) -> None:
        """Give a worker its next slice, if it is ready. What it hands on is never done again, so all of it is progress."""
        self._give(lambda actor: actor.work.remote(calls.SLICE_S), self._all_completions)

    def step(self) -> None:
        """Give a learner the time for its next step, if it is ready. A version beyond all earlier ones is progress."""
        self._give(lambda actor: actor.step.remote(calls.SLICE_S), lambda report: int(report.version))

    def drain(self, seconds: float) -> None:
        """Give a worker that is ready its last slice, of at most `seconds`."""
        self.group.drain()
        self._slice = [actor.drain.remote(seconds) for actor in self.group.actors]
        self._point = lambda report: 0

    def collect(self) -> None:
        """Take the report of a slice that is over; replace the group if it died.

        Raises:
            RunFailed: It died once too often, or of an error that another try would only meet again.
        """
        try:
            reports = calls.values(self.pending)
        except CallFailed as error:
            self._failed(error)
            return
        self._slice = []
        if self.group.state is State.MAKING:
            self.group.mark_ready()
        elif reports[0] is not None:
            self._tries.reached(self._point(reports[0]))
            self._on_report(reports[0])

    def _all_completions(self, report: Any) -> int:
        self._completions += report.completions
        return self._completions

    def _give(self, call: Callable[[Any], Any], point: Callable[[Any], int]) -> None:
        """Call every actor, if they are ready. point: how far a report says that the group is, see `Tries.reached`."""
        if self.group.state is State.READY:
            self._slice, self._point = [call(actor) for actor in self.group.actors], point

    def _failed(self, error: CallFailed) -> None:
        self._slice = []
        if self.group.state is State.DRAINING:
            self._note(f"{self.name} died while it drained ({error}): its groups are claimed by others")
            self.group.end()
            return
        which = self._tries.died(error)
        self._note(f"{self.name} died ({error}): replaced, {which}")
        self.group.replace()


def poll(groups: Sequence[SupervisedGroup]) -> list[SupervisedGroup]:
    """Wait up to a slice for groups to end theirs, and take their reports. Returns those that ended a slice, or died.

    Only calls without an answer are waited for: a rank that has answered says nothing about the ranks that have not, and must
    not keep the reports of other groups waiting.
    """
    ended = _ended(groups)
    if not ended:
        calls.first_answered(calls.unanswered([ref for group in groups for ref in group.pending]), calls.SLICE_S)
        ended = _ended(groups)
    for group in ended:
        group.collect()
    return ended


def await_ready(
    groups: Sequence[SupervisedGroup],
    *,
    limit_s: float,
    are_dispensable: Callable[[Sequence[ActorGroup]], bool] = lambda groups: False,
    why: Callable[[Sequence[ActorGroup]], str] = lambda groups: "",
    show: ShowActivity = show_nothing,
) -> None:
    """Wait until groups that were begun are ready. What dies meanwhile is made again, by the rule that holds afterwards too.

    Args:
        groups: They are ready, or are being made.
        limit_s: For each try to start.
        are_dispensable: Whether the stage may go on without these groups, which are not ready after PLACE_S.
        why: Returns what groups that are not ready wait for, with a separator.
        show: Gets who is started, and how many of them are ready.

    Raises:
        RunFailed: One died too often, or of an error that another try would only meet again.
        TimeoutError: It names those that were not ready in time.
    """
    replaced, since = 0, time.monotonic()
    while starting := [supervised for supervised in groups if supervised.group.state is State.MAKING]:
        late = [supervised.group for supervised in starting]
        show(f"starting {_named(groups)}", done=len(groups) - len(late), total=len(groups))
        if time.monotonic() - since > PLACE_S and are_dispensable(late):
            return
        if time.monotonic() - since > limit_s:
            calls_of = [(ref, name) for s in starting for ref, name in zip(s.pending, s.group.members, strict=True)]
            names = [name for ref, name in calls_of if calls.unanswered([ref])]
            raise TimeoutError(f"the driver waited {limit_s:.0f} s for {', '.join(names)} to start (waits.start_s){why(late)}")
        poll(starting)
        if (now := sum(supervised.replaced for supervised in groups)) > replaced:
            replaced, since = now, time.monotonic()


def _named(groups: Sequence[SupervisedGroup]) -> str:
    """Returns the names of groups, each once with its number."""
    counts = Counter(group.name for group in groups)
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in counts.items())


def _ended(groups: Sequence[SupervisedGroup]) -> list[SupervisedGroup]:
    return [group for group in groups if group.pending and calls.is_over(group.pending)]
