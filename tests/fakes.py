"""The few hand-written fakes. They replace slow components only to inject latency, order and faults."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from actors.generator import Request
from buffer.messages import Completion
from buffer.weights import NONE, Edition, PublishedWeights


class FakeEngine:
    """In place of vLLM: completes requests when the test calls `finish`, with a text that the test chooses."""

    def __init__(self, text: Callable[[Request, int], str] = lambda request, sample: f"text {sample}") -> None:
        self.edition = Edition(0, 0)
        self.tokens = self.steps = self.waiting = 0
        self.loaded: list[int] = []
        self.batches: list[int] = []
        self.closed = False
        self._text = text
        self._running: list[tuple[Request, Future[tuple[Completion, ...]]]] = []
        self._lock = threading.Lock()
        self.automatic = True

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
