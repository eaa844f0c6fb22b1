"""How fast an endpoint is asked: by its limits, and slower for as long as its quota is used up.

a request ─▶ turn: waits for its place by requests and tokens a minute, and for the end of a pause ─▶ sent
quota used up (429) ─▶ pause for all: what the server says, or PAUSES_S in turn; behind it they start one after the other,
                                    those that had their places before at the same distances as before
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

PAUSES_S = (2.0, 8.0, 30.0, 60.0)  # quotas are counted by the minute, so that the last one ends each of them
FIRST_SPACING_S = 0.25  # between two starts behind a pause; doubled at each further one
LONGEST_SPACING_S = 15.0
EASED = 0.9  # of the spacing that is left after each answer


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointLimits:
    """How an endpoint may be asked; options of launch/evaluate.py have the same names."""

    timeout_s: float = 180.0
    """Seconds in which one try must be answered."""
    tries: int = 5
    """For one request that failed for a reason that may pass."""
    concurrency: int = 16
    """Requests under way at a time."""
    requests_per_minute: int = 0
    """Most requests that are begun in a minute; 0: no limit."""
    tokens_per_minute: int = 0
    """Most tokens of prompts and answers in a minute; 0: no limit."""

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.tries < 1 or not self.timeout_s > 0:
            raise ValueError(
                f"concurrency {self.concurrency}, tries {self.tries}, timeout_s {self.timeout_s}: each must be above 0"
            )
        if self.requests_per_minute < 0 or self.tokens_per_minute < 0:
            per_minute = f"requests_per_minute {self.requests_per_minute}, tokens_per_minute {self.tokens_per_minute}"
            raise ValueError(f"{per_minute}: give 0 for no limit")


class RequestPace:
    """When the next request may start. For one event loop."""

    def __init__(
        self,
        limits: EndpointLimits,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`now` and `sleep` are the clock, in seconds."""
        self._limits, self._now, self._sleep = limits, now, sleep
        self._next = self._resume = 0.0
        self._spacing = 0.0
        self._pauses = 0
        self._paused_s = 0.0  # of all pauses together: a place that was given before one of them is later by it

    async def turn(self, tokens: int) -> None:
        """Wait until a request of about so many tokens may start."""
        start = max(self._now(), self._next, self._resume)
        self._next = start + max(self._spacing, self._seconds_of(tokens))
        paused_s = self._paused_s
        while (wait := start + self._paused_s - paused_s - self._now()) > 0:  # a pause may begin meanwhile
            await self._sleep(wait)

    def settle(self, expected: int, used: int) -> None:
        """Note an answer, and that its request took `used` tokens where `expected` were counted."""
        self._pauses, self._spacing = 0, self._spacing * EASED if self._spacing > 0.01 else 0.0
        if self._limits.tokens_per_minute:
            self._next += 60 * (used - expected) / self._limits.tokens_per_minute

    def pause(self, wait_s: float | None) -> None:
        """Let nothing start for so long; None: the server did not say. Several refusals of one moment are one pause."""
        if self._resume > self._now():
            return
        seconds = PAUSES_S[min(self._pauses, len(PAUSES_S) - 1)] if wait_s is None else wait_s
        self._pauses += 1
        self._spacing = min(LONGEST_SPACING_S, max(FIRST_SPACING_S, 2 * self._spacing))
        self._paused_s += seconds
        self._next = max(self._next, self._now()) + seconds
        self._resume = self._now() + seconds

    def _seconds_of(self, tokens: int) -> float:
        by_request = 60 / self._limits.requests_per_minute if self._limits.requests_per_minute else 0.0
        by_token = 60 * tokens / self._limits.tokens_per_minute if self._limits.tokens_per_minute else 0.0
        return max(by_request, by_token)
