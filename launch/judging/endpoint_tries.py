"""Requests to one endpoint: who may be asked next, what is tried again, and when the endpoint is given up.

a request ─▶ its turn: `concurrency` at a time, the first one alone ─▶ its place by quota (request_pace.py) ─▶ sent
             ▲ may pass: again, up to `tries` times ◀─ error ─▶ of this request: raised  │  of every one: EndpointGone
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from launch.judging.endpoint_errors import EndpointError, EndpointGone, MayPass, RequestRefused, Said
from launch.judging.request_pace import EndpointLimits, RequestPace

RETRY_S, LONGEST_RETRY_S = 0.5, 8.0  # before the second try, doubled before each further one
LONGEST_WAIT_S = 300.0  # that a server may ask for; a quota of a day is no pause
GONE_AFTER = 8  # requests in a row without an answer, each after all its tries

Received = TypeVar("Received")
Answered = TypeVar("Answered")
Counted = tuple[int, int] | None  # tokens of prompt and completion that a server counted; None: it counted none


@dataclass(slots=True)
class Spent:
    """What was asked of an endpoint."""

    requests: int = 0
    """HTTP requests sent, those that failed among them."""
    prompt_tokens: int = 0
    """Tokens of prompts that the server counted."""
    completion_tokens: int = 0
    """Tokens of answers that the server counted."""

    def describe(self) -> str:
        """Returns it as a line."""
        counted = self.prompt_tokens + self.completion_tokens
        tokens = f"{self.prompt_tokens:,} prompt + {self.completion_tokens:,} completion tokens" if counted else "no tokens"
        return f"{self.requests:,} requests, those that failed among them; the server counted {tokens}"


class EndpointTries:
    """The requests to one endpoint. For one event loop."""

    def __init__(self, limits: EndpointLimits) -> None:
        """`limits`: how it may be asked."""
        self._limits = limits
        self.spent = Spent()
        self._pace = RequestPace(limits)
        self._gate = asyncio.Semaphore(limits.concurrency)
        self._first = asyncio.Lock()
        self._begun = False  # once the first request has ended, however that was
        self._answered = 0
        self._silent = 0  # requests in a row that ended without an answer
        self.gone: EndpointGone | None = None
        """What the endpoint was given up with; None while it is asked."""

    def begin(self) -> None:
        """Forget what an earlier wave ended with: an outage may have passed."""
        self.gone, self._silent = None, 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the places of requests under way; the very first holder is alone."""
        async with self._gate:
            if self._begun:
                yield
                return
            async with self._first:
                if not self._begun:
                    try:
                        yield
                    finally:
                        self._begun = True
                    return
            yield

    async def tried(
        self,
        tried: str,
        expected: int,
        send: Callable[[str], Awaitable[tuple[Received, Counted]]],
        read: Callable[[Received], Answered],
        adapt: Callable[[Said], bool],
    ) -> Answered:
        """Returns the answer to a request, tried again where that may help.

        Args:
            tried: Names the request in errors.
            expected: Tokens that it may take.
            send: Sends it once, under the name that it gets.
            read: Reads what came back; its errors are of the same kinds.
            adapt: Gets why it was refused, and says whether it is worth sending again, changed.

        Raises:
            RequestRefused: The server refuses this request.
            EndpointGone: It will answer none.
            EndpointError: It did not answer this one.
        """
        failures = 0
        while True:
            before = self._answered
            try:
                answer = read(await self._sent(_counted(tried, failures + 1), expected, send))
                self._answered, self._silent = self._answered + 1, 0
                return answer
            except RequestRefused as refused:
                self._silent = 0  # it reads and speaks
                if not adapt(refused.said):
                    raise
            except MayPass as error:
                # a quota that lets others through is no failure of this request
                failures += not (error.quota and self._answered > before)
                if failures >= self._limits.tries:
                    raise self._silenced(error) from None
                await self._wait(error, failures)
            except EndpointGone as error:
                self.gone = error
                raise
            except EndpointError as error:
                raise self._silenced(error) from None

    async def _sent(self, tried: str, expected: int, send: Callable[[str], Awaitable[tuple[Received, Counted]]]) -> Received:
        if self.gone:
            raise self.gone
        await self._pace.turn(expected)
        if self.gone:
            raise self.gone
        self.spent.requests += 1
        received, counted = await send(tried)
        prompt, written = counted or (0, 0)
        self.spent.prompt_tokens += prompt
        self.spent.completion_tokens += written
        self._pace.settle(expected, expected if counted is None else prompt + written)
        return received

    async def _wait(self, error: MayPass, failures: int) -> None:
        """Wait before the next try: all requests where a quota is used up, else this one."""
        if error.wait_s is not None and error.wait_s > LONGEST_WAIT_S:
            self.gone = EndpointGone(f"{error} (it asks to wait {error.wait_s:.0f} s)")
            raise self.gone
        if error.quota:
            self._pace.pause(error.wait_s)
        elif error.wait_s is not None:
            await asyncio.sleep(error.wait_s)
        else:
            await asyncio.sleep(min(LONGEST_RETRY_S, RETRY_S * 2 ** (failures - 1)))

    def _silenced(self, error: EndpointError) -> EndpointError:
        """Returns the error of a request that ended without an answer, or that the endpoint is gone with it."""
        self._silent += 1
        dead = not self._answered and isinstance(error, MayPass)
        if self.gone is None and (dead or self._silent >= GONE_AFTER):
            self.gone = EndpointGone(str(error))
        return self.gone or error


def _counted(tried: str, count: int) -> str:
    return f"{tried}, {count} {'try' if count == 1 else 'tries'}"
