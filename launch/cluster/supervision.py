"""How the driver drives: every part works in slices that return values, and is given the next slice when one ends.

submit ─▶ [ part: work for a second ] ─▶ listen: collect, hear, submit again
              └── dies ─▶ replaced, up to `cluster.restarts` times in a row ─▶ RunFailed, with its own last error
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from launch.cluster.actor_group import ActorGroup
from learner.checkpoint import CheckpointError
from learner.selection import StalenessError

SLICE_S = 1.0
# Errors that another try would only meet again.
FATAL = (FloatingPointError, CheckpointError, StalenessError)


class RunFailed(RuntimeError):
    """A part of the run ended with an error; the message names it."""


class SupervisedGroup:
    """A group whose method is called on all its actors together; one slice is over when all have answered.

    on_report: gets the report of the first one, unless it is None. note: told of each death.
    """

    def __init__(
        self, group: ActorGroup, method: str, on_report: Callable[[Any], None], *, restarts: int, note: Callable[[str], None]
    ) -> None:
        self.group, self.method, self._on_report = group, method, on_report
        self._restarts, self._note = restarts, note
        self._deaths = 0  # in a row, with nothing done in between
        self.replaced = 0
        self.refs: list[Any] = [] if group.ready else group.refs

    @property
    def name(self) -> str:
        return self.group.name

    def submit(self, *given: Any) -> None:
        """The next slice; `given` in place of its length for a method that wants something else. A part that is being
        made is left to become ready."""
        if self.group.ready:
            self.refs = [getattr(actor, self.method).remote(*(given or (SLICE_S,))) for actor in self.group.actors]

    def collect(self) -> None:
        """Hear the slice that is over; replace the group if it died."""
        try:
            reports = ray.get(self.refs)
        except FATAL as error:
            raise RunFailed(f"{self.name} failed: {error}") from error
        except ray.exceptions.RayError as error:
            self._replace(error)
            return
        self.refs = []
        if not self.group.ready:
            self.group.ready = True
            return
        if reports[0] is not None:
            if reports[0].completions:
                self._deaths = 0
            self._on_report(reports[0])

    def _replace(self, error: Exception) -> None:
        self._deaths += 1
        if self._deaths > self._restarts:
            raise RunFailed(
                f"{self.name} failed {self._deaths} times in a row and got nothing done in between"
                f" (cluster.restarts = {self._restarts}); the last time: {error}"
            ) from error
        self._note(f"{self.name} died ({one_line(error)}): replaced, try {self._deaths} of {self._restarts}")
        self.replaced += 1
        self.refs = self.group.replace()


def poll(parts: Sequence[SupervisedGroup]) -> list[SupervisedGroup]:
    """Wait up to a slice for parts to finish theirs, and let them be on_report; those that did, or died."""
    owners = {ref: part for part in parts for ref in part.refs}
    done, _ = ray.wait(list(owners), num_returns=1, timeout=SLICE_S)
    on_report = [part for part in {id(owners[ref]): owners[ref] for ref in done}.values() if _over(part.refs)]
    for part in on_report:
        part.collect()
    return on_report


def _over(refs: Sequence[Any]) -> bool:
    """All have answered, or one has failed: the others may then wait for it for ever."""
    if all_ready(refs):
        return True
    try:
        ray.get(_ready(refs))
    except ray.exceptions.RayError:
        return True
    return False


def all_ready(refs: Sequence[Any]) -> bool:
    return len(_ready(refs)) == len(refs)


def _ready(refs: Sequence[Any]) -> list[Any]:
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    return ready


def one_line(error: Exception) -> str:
    """An error of Ray on one line."""
    cause = getattr(error, "cause", None)
    text = repr(cause) if isinstance(cause, Exception) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]
