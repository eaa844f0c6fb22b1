"""The supervision loop: every actor group works in slices that return values, and gets the next slice when one ends.

work, step, drain ─▶ [ the group works for a second ] ─▶ poll: take its report; the driver gives it the next slice
                         └── dies ─▶ replaced, up to `cluster.restarts` times in a row ─▶ RunFailed, its own last error
"""

from collections.abc import Callable, Sequence
from typing import Any

from launch.cluster import calls
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.failures import ActorLost, RunFailed


class SupervisedGroup:
    """A group whose actors are all given the same slice; it is over when all of them have answered."""

    def __init__(
        self, group: ActorGroup, *, on_report: Callable[[Any], None], restarts: int, note: Callable[[str], None]
    ) -> None:
        """Takes over a group that was begun.

        Args:
            group: The actors.
            on_report: Gets the report of the first actor after each slice, unless it is None.
            restarts: Deaths in a row, with nothing done in between, that are mended.
            note: Gets a log line about each death.
        """
        self.group = group
        self._on_report, self._restarts, self._note = on_report, restarts, note
        self._deaths = 0  # in a row
        self._slice: list[Any] = []
        self._made_progress: Callable[[Any], bool] = lambda report: False  # of the slice under way
        self.replaced = 0
        """Deaths that were mended so far."""

    @property
    def name(self) -> str:
        """The group's name."""
        return self.group.name

    @property
    def pending(self) -> list[Any]:
        """The calls that it has yet to answer: a slice, or that it is ready."""
        return self._slice or self.group.ready_calls

    def work(self) -> None:
        """Give a worker its next slice, if it is ready."""
        self._give(lambda actor: actor.work.remote(calls.SLICE_S), lambda report: report.completions > 0)

    def step(self) -> None:
        """Give a learner the time for its next step, if it is ready; a report is a step done."""
        self._give(lambda actor: actor.step.remote(calls.SLICE_S), lambda report: True)

    def drain(self, seconds: float) -> None:
        """Give a worker that is ready its last slice, of at most `seconds`."""
        self.group.drain()
        self._slice = [actor.drain.remote(seconds) for actor in self.group.actors]
        self._made_progress = lambda report: False

    def collect(self) -> None:
        """Take the report of a slice that is over; replace the group if it died.

        Raises:
            RunFailed: It died once too often, or of an error that another try would only meet again.
        """
        try:
            reports = calls.values(self.pending)
        except calls.FATAL as error:
            raise RunFailed(f"{self.name} failed: {error}") from error
        except ActorLost as error:
            self._died(error)
            return
        self._slice = []
        if self.group.state is State.MAKING:
            self.group.mark_ready()
        elif reports[0] is not None:
            if self._made_progress(reports[0]):
                self._deaths = 0
            self._on_report(reports[0])

    def _give(self, call: Callable[[Any], Any], made_progress: Callable[[Any], bool]) -> None:
        """Call every actor, if they are ready. made_progress: whether a report forgives earlier deaths."""
        if self.group.state is State.READY:
            self._slice, self._made_progress = [call(actor) for actor in self.group.actors], made_progress

    def _died(self, error: ActorLost) -> None:
        self._slice = []
        if self.group.state is State.DRAINING:
            self._note(f"{self.name} died while it drained ({error.reason}): its groups are claimed by others")
            self.group.end()
            return
        self._deaths += 1
        if self._deaths > self._restarts:
            raise RunFailed(
                f"{self.name} failed {self._deaths} times in a row and got nothing done in between"
                f" (cluster.restarts = {self._restarts}); the last time: {error}"
            ) from error
        self._note(f"{self.name} died ({error.reason}): replaced, try {self._deaths} of {self._restarts}")
        self.replaced += 1
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


def _ended(groups: Sequence[SupervisedGroup]) -> list[SupervisedGroup]:
    return [group for group in groups if group.pending and calls.is_over(group.pending)]
