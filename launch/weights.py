"""How policy weights travel: through Ray's object store, by reference, with a board that knows the newest version.

    learner ── put(version v, reference) ──▶ WeightBoard ◀── newest? get ── rollout actors

Actors import this file alone, so it imports little.
"""

from __future__ import annotations

import os
from typing import Any

import ray

from buffer.weights import PublishedWeights


class WeightBoard:
    """Holds the newest published weights by reference. As a Ray actor it answers in a millisecond or two."""

    def __init__(self) -> None:
        self._version = -1
        self._boxed: list[Any] = []

    def put(self, version: int, boxed: list[Any]) -> None:
        """Keep the reference of `version` and let go of the older one. The list keeps Ray from resolving it."""
        if version <= self._version:
            raise ValueError(f"version {version} was published after version {self._version}")
        self._version, self._boxed = version, boxed

    def newest(self) -> int:
        return self._version

    def get(self) -> list[Any]:
        return self._boxed


class RayWeights:
    """`WeightSink` and `WeightSource` through Ray's object store: arrays are shared pages on a node, read-only."""

    def __init__(self, board: Any, timeout_s: float) -> None:
        self._board = board
        self._timeout_s = timeout_s

    def publish(self, weights: PublishedWeights) -> None:
        self._wait(self._board.put.remote(weights.version, [ray.put(weights)]), "the weight board to take a version")

    def newest(self) -> int:
        return int(self._wait(self._board.newest.remote(), "the weight board to tell its newest version"))

    def pull(self) -> PublishedWeights:
        boxed = self._wait(self._board.get.remote(), "the weight board to hand out its newest version")
        weights: PublishedWeights = self._wait(boxed[0], "the newest weights to arrive")
        return weights

    def _wait(self, ref: Any, what: str) -> Any:
        try:
            return ray.get(ref, timeout=self._timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(f"process {os.getpid()} waited {self._timeout_s:.0f} s for {what}") from error
