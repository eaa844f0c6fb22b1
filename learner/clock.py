"""Where the time between two optimiser steps goes."""

import time


class Clock:
    """Measures where the time between two optimiser steps goes."""

    def __init__(self) -> None:
        self._last, self._waited = time.perf_counter(), 0.0

    def add_wait(self, seconds: float) -> None:
        """Count `seconds` of waiting for experience."""
        self._waited += seconds

    def metrics(self) -> dict[str, float]:
        """Return the seconds since the last call, and how many of them were spent waiting for experience."""
        now = time.perf_counter()
        period, waited = now - self._last, self._waited
        self._last, self._waited = now, 0.0
        return {
            "time/wait_for_experience_s": waited,
            "time/step_s": period,
            "idle/learner_ratio": waited / period,
        }
