"""Decides on the number of rollout workers from the idle ratios of the learner and of the workers."""

from __future__ import annotations

BUSY, IDLE = 0.2, 0.5  # shares of time: below the first nobody waits, above the second half the time is waited away
PATIENCE = 3  # optimiser steps in a row that must say the same, lest the number of workers swings


class Autoscaler:
    """Decides from the idle ratios of the two sides. low, high: workers at least and at most; high = 0: it never decides."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = max(1, low), high
        self._asked: list[int] = []

    def decide(self, workers: int, learner_idle: float, rollout_idle: float) -> int | None:
        """The number of workers to wish for, or None to leave it. Grows while the learner waits for experience and the
        workers do not wait, shrinks while it is the other way round, one at a time, after PATIENCE equal votes."""
        if not self._high:
            return None
        if not self._low <= workers <= self._high:
            return min(max(workers, self._low), self._high)
        vote = 0
        if learner_idle > IDLE and rollout_idle < BUSY:
            vote = 1
        elif rollout_idle > IDLE and learner_idle < BUSY:
            vote = -1
        self._asked = [*self._asked, vote] if vote and (not self._asked or self._asked[-1] == vote) else [vote]
        if not vote or len(self._asked) < PATIENCE or not self._low <= workers + vote <= self._high:
            return None
        self._asked = []
        return workers + vote
