"""Waiting for verdicts: whoever waits for a cohort also sees to it that somebody judges it.

    verdict(cohort) ─▶ is it ready, and nobody's? ─▶ judges.judge ─┐
          ▲            looked at every POLL_S, all in one call     ├─▶ its verdict, to all who wait for it in this process
          └────────────── judged by another process ◀──────────────┘

A process that dies takes nothing along: those who wait in others find the cohort free when its judge's lease has run out.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from buffer.cohorts import Look

POLL_S = 0.1
RETRY_S = 0.5  # after a judge that failed: it may be one that starts
logger = logging.getLogger(__name__)


def outliving(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Returns work that was begun, in no request's context: Ray Serve cancels what is in that of a request together with it."""
    return asyncio.create_task(work, context=contextvars.Context())


class Lost(Exception):
    """The store has a cohort no longer."""


class Judges(Protocol):
    """Where cohorts are judged."""

    async def judge(self, cohort: str) -> bytes | None:
        """Returns the verdict of a cohort that is ready; None where another judge has it, or its deadline came first."""
        ...


class Watch:
    """The cohorts that this process waits for."""

    def __init__(self, judges: Judges, look: Callable[[Sequence[str]], Awaitable[list[Look]]], *, limit_s: float) -> None:
        """Takes where cohorts are judged, how they are looked at, and how long a judge may take, in seconds."""
        self._judges, self._look, self._limit_s = judges, look, limit_s
        self._waiting: dict[str, set[asyncio.Future[bytes]]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._poll: asyncio.Task[None] | None = None

    async def verdict(self, cohort: str, *, free: bool, timeout_s: float) -> bytes:
        """Returns the verdict of a cohort. TimeoutError when there is none in time, Lost where the store has it no longer.

        Args:
            cohort: Its name.
            free: Whether it waited for a judge a moment ago.
            timeout_s: In seconds.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(cohort, set()).add(future)
        if free:
            self._start(cohort)
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._polling())
        try:
            return await asyncio.wait_for(future, timeout_s)
        finally:
            waiting = self._waiting.get(cohort, set())
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(cohort, None)

    def _start(self, cohort: str) -> None:
        if cohort not in self._running:
            self._running[cohort] = outliving(self._run(cohort))  # others wait for it, too

    async def _run(self, cohort: str) -> None:
        try:
            verdict = await asyncio.wait_for(self._judges.judge(cohort), self._limit_s)
            if verdict is not None:
                self._settle(cohort, verdict)
        except Exception as error:  # of whatever kind: another judge may do better, until the deadline of those who wait
            logger.warning("cohort %s: the judge failed (%s: %s)", cohort, type(error).__name__, error)
            await asyncio.sleep(RETRY_S)
        finally:
            del self._running[cohort]

    async def _polling(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_S)
            waiting = list(self._waiting)  # those under way as well: another judge may have been quicker than one that hangs
            try:
                looks = await self._look(waiting)
            except Exception as error:  # the store is away; those who wait have deadlines of their own
                logger.warning("the store does not answer (%s)", error)
                continue
            for cohort, look in zip(waiting, looks, strict=True):
                if look.verdict is not None:
                    self._settle(cohort, look.verdict)
                elif look.state == "gone":
                    self._lose(cohort)
                elif look.is_free:
                    self._start(cohort)

    def _lose(self, cohort: str) -> None:
        for future in self._waiting.get(cohort, ()):
            if not future.done():
                future.set_exception(Lost(f"cohort {cohort}: the store has it no longer"))

    def _settle(self, cohort: str, verdict: bytes) -> None:
        for future in self._waiting.get(cohort, ()):
            if not future.done():
                future.set_result(verdict)
