"""The few hand-written fakes. They replace slow components only to inject latency, order and faults."""

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from actors.generator import Request
from buffer.messages import Completion
from buffer.weights import NONE, Edition, PublishedWeights

STEP_S = 0.1  # between two signs of life of an engine at work


class FakeEngine:
    """In place of vLLM: completes requests when the test calls `finish`, with a text that the test chooses. Of more than
    `places` requests the others wait."""

    def __init__(
        self, text: Callable[[Request, int], str] = lambda request, sample: f"text {sample}", *, places: int = 8
    ) -> None:
        self.edition = Edition(0, 0)
        self.tokens = self.steps = 0
        self.places = places
        self.loaded: list[int] = []
        self.batches: list[int] = []
        self.closed = False
        self._text = text
        self._running: list[tuple[Request, Future[tuple[Completion, ...]]]] = []
        self._lock = threading.Lock()
        self.automatic = True

    @property
    def waiting(self) -> int:
        return max(0, len(self._running) - self.places)

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        futures: list[Future[tuple[Completion, ...]]] = [Future() for _ in requests]
        with self._lock:
            self.batches.append(len(requests))
            self._running += zip(requests, futures, strict=True)
        if self.automatic:
            self.finish()
        return futures

    def finish(self, count: int | None = None) -> None:
        """Complete the oldest `count` requests (all by default) under the loaded version."""
        with self._lock:
            ready, self._running = self._running[:count], self._running[count:] if count is not None else []
        self.steps += bool(ready)
        for request, future in ready:
            completions = tuple(self._complete(request, sample) for sample in range(request.samples))
            self.tokens += sum(len(c.token_ids) for c in completions)
            future.set_result(completions)

    def load(self, weights: PublishedWeights) -> float:
        self.edition = weights.edition
        self.loaded.append(weights.version)
        return 0.001

    def close(self) -> None:
        self.closed = True

    def _complete(self, request: Request, sample: int) -> Completion:
        ids = tuple(3 + sample + i for i in range(4))
        return Completion(
            token_ids=ids,
            logprobs=(-0.5,) * 4,
            versions=(self.edition.version,) * 4,
            text=self._text(request, sample),
            finish="stop",
        )


class TimedEngine(FakeEngine):
    """Completes each request a while after it got a place, for which it waits in line; the time is the test's to say."""

    def __init__(self, text: Callable[[Request, int], str], *, seconds: Callable[[Request], float], places: int) -> None:
        super().__init__(text, places=places)
        self._seconds, self._number = seconds, itertools.count()
        self._line: deque[tuple[Request, Future[tuple[Completion, ...]]]] = deque()
        self._due: list[tuple[float, int, Request, Future[tuple[Completion, ...]]]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        futures: list[Future[tuple[Completion, ...]]] = [Future() for _ in requests]
        with self._changed:
            self._line += zip(requests, futures, strict=True)
            self._changed.notify()
        return futures

    def _run(self) -> None:
        """Sleep from one end to the next: a machine may have many of these."""
        while not self.closed:
            with self._changed:
                while self._line and len(self._due) < self.places:
                    request, future = self._line.popleft()
                    due = time.monotonic() + self._seconds(request)
                    heapq.heappush(self._due, (due, next(self._number), request, future))
                left = self._due[0][0] - time.monotonic() if self._due else STEP_S
                if left > 0:
                    self._changed.wait(min(left, STEP_S))
                    self.steps += bool(self._due)
                    continue
                _, _, request, future = heapq.heappop(self._due)
            self.steps += 1
            completions = tuple(self._complete(request, sample) for sample in range(request.samples))
            self.tokens += sum(len(c.token_ids) for c in completions)
            future.set_result(completions)


class LocalWeights:
    """`WeightSink` and `WeightSource` inside one process."""

    def __init__(self) -> None:
        self.published: list[PublishedWeights] = []

    def publish(self, weights: PublishedWeights) -> None:
        self.published.append(weights)

    def republish_if_lost(self) -> None:
        """It cannot be lost."""

    def newest(self) -> Edition:
        return self.published[-1].edition if self.published else NONE

    def pull(self) -> PublishedWeights:
        return self.published[-1]


class SkippingClock:
    """In place of a module's `time`: who sleeps wakes at once, and the clock has gone on by as much. What waits by a limit in
    it needs no short one, which a busy machine would miss."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds
