"""How policy weights travel: through Ray's object store, by reference, with a board that knows the newest version.

    learner ── put(version v, reference) ──▶ WeightBoard ◀── newest? get ── rollout actors

Actors import this file alone, so it imports little.
"""

from __future__ import annotations

import os
from typing import Any

import ray

from buffer.weights import NONE, Edition, PublishedWeights


class WeightBoard:
    """Holds the newest published weights by reference. As a Ray actor it answers in a millisecond or two."""

    def __init__(self) -> None:
        self._edition = NONE
        self._boxed: list[Any] = []

    def put(self, edition: Edition, boxed: list[Any]) -> None:
        """Keep the reference of `edition` and let go of the older one. The list keeps Ray from resolving it."""
        if edition <= self._edition:
            raise ValueError(f"{edition} was published after {self._edition}: this learner was replaced")
        self._edition, self._boxed = edition, boxed

    def newest(self) -> Edition:
        return self._edition

    def get(self) -> list[Any]:
        return self._boxed


class RayWeights:
    """`WeightSink` and `WeightSource` through Ray's object store: arrays are shared pages on a node, read-only."""

    def __init__(self, board: Any, timeout_s: float) -> None:
        self._board = board
        self._published: tuple[Edition, list[Any]] = (NONE, [])
        self._timeout_s = timeout_s

    def publish(self, weights: PublishedWeights) -> None:
        self._published = (weights.edition, [ray.put(weights)])
        self._put()

    def restate(self) -> None:
        if self._published[1] and self.newest() == NONE:
            self._put()

    def _put(self) -> None:
        self._wait(self._board.put.remote(*self._published), "the weight board to take a version")

    def newest(self) -> Edition:
        newest: Edition = self._wait(self._board.newest.remote(), "the weight board to tell its newest version")
        return newest

    def pull(self) -> PublishedWeights | None:
        boxed = self._wait(self._board.get.remote(), "the weight board to hand out its newest version")
        if not boxed:
            return None
        try:
            weights: PublishedWeights = self._wait(boxed[0], "the newest weights to arrive")
        except ray.exceptions.ObjectLostError:  # they lived in the process of the learner that put them there
            return None
        return weights

    def _wait(self, ref: Any, what: str) -> Any:
        try:
            return ray.get(ref, timeout=self._timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(f"process {os.getpid()} waited {self._timeout_s:.0f} s for {what}") from error
