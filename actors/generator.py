"""What a rollout actor needs of an engine, and what it asks: no engine is imported here."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from buffer.messages import Completion
from buffer.weights import Edition, PublishedWeights
from grm.expected_scores import TokenChoice


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt to be sampled."""

    token_ids: tuple[int, ...]
    """The prompt."""
    samples: int
    """Completions of it, at least 1."""
    temperature: float
    """Of the sampling; 0 is greedy."""
    max_new_tokens: int
    """Tokens of a completion at most."""
    seed: int | None = None
    """The same seed gives the same samples, whatever else the engine is doing (up to rounding); None: the engine draws from
    its own stream."""
    alternatives: int = 0
    """Likeliest tokens to be told at each place of a score, with their log-probs; 0: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionWithChoices(Completion):
    """A completion of a request that asks for alternatives."""

    choices: tuple[TokenChoice, ...]
    """Its tokens, with alternatives where a score may stand (`grm.expected_scores.trimmed`)."""


class SamplingEngine(Protocol):
    """An engine. Its methods may be called from any thread."""

    @property
    def edition(self) -> Edition:
        """The edition of the weights in force."""
        ...

    @property
    def tokens(self) -> int:
        """Completion tokens finished since the start."""
        ...

    @property
    def steps(self) -> int:
        """Decode steps since the start: while it has requests and they stand still, the engine hangs."""
        ...

    @property
    def waiting(self) -> int:
        """Completions that were submitted and have no place in a step yet, or have lost it: more would wait behind them."""
        ...

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        """Start the requests together. Returns a future of the completions of each."""
        ...

    def load(self, weights: PublishedWeights) -> float:
        """Change the weights; running requests go on under the new ones. Returns the seconds that decoding stood still."""
        ...

    def close(self) -> None:
        """End the engine. Requests that are still running fail."""
        ...


class ServedEngine(Protocol):
    """An engine whose requests can be ended. Its methods may be called from any thread."""

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        """Start the requests together. Returns a future of the completions of each; it fails when the request is ended."""
        ...

    def abort(self, futures: Sequence[Future[tuple[Completion, ...]]]) -> None:
        """End requests that nobody waits for any more; one that is done stays as it is."""
        ...

    def close(self) -> None:
        """End the engine. Requests that are still running fail."""
        ...
