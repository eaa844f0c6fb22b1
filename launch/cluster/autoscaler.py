"""Decides on the number of rollout workers from the idle ratios of the learner and of the workers."""

BUSY, IDLE = 0.2, 0.5  # shares of time: below the first nobody waits, above the second half the time is spent waiting
PATIENCE = 3  # optimiser steps in a row that must point the same way, or the number of workers would swing


class Autoscaler:
    """Decides step by step.

    Example: `Autoscaler(low=1, high=8)` with 4 workers. Three steps with learner_idle 0.7 and rollout_idle 0.1 give None,
    None, 5. Three with 0.1 and 0.7 give None, None, 3. With 9 workers the first call gives 8: the bounds hold at once.
    """

    def __init__(self, low: int, high: int) -> None:
        """Args:
        low: Workers at least (0 counts as 1).
        high: Workers at most; 0: it never decides.
        """
        self._low, self._high = max(1, low), high
        self._directions: list[int] = []

    def decide(self, workers: int, learner_idle: float, rollout_idle: float) -> int | None:
        """Returns the number of workers to aim at, or None to leave it.

        It grows while the learner waits for experience and the workers do not wait, and shrinks while it is the other way
        round: one worker at a time, after PATIENCE steps that point the same way.

        Args:
            workers: Workers now, without those that drain.
            learner_idle: Share of the last step that the learner waited for groups, 0..1.
            rollout_idle: Share of it that the workers had nothing to decode, 0..1.
        """
        if not self._high:
            return None
        if not self._low <= workers <= self._high:
            return min(max(workers, self._low), self._high)
        direction = 0
        if learner_idle > IDLE and rollout_idle < BUSY:
            direction = 1
        elif rollout_idle > IDLE and learner_idle < BUSY:
            direction = -1
        same = not self._directions or self._directions[-1] == direction
        self._directions = [*self._directions, direction] if direction and same else [direction]
        if not direction or len(self._directions) < PATIENCE or not self._low <= workers + direction <= self._high:
            return None
        self._directions = []
        return workers + direction
