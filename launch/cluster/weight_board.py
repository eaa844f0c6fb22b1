"""How policy weights travel: through Ray's object store, by reference, with a board that knows the newest version.

    learner ── put(version v, reference) ──▶ WeightBoard ◀── newest? get ── rollout actors

Actors import this file alone, so it imports little.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import ray

from buffer.weights import NONE, Edition, PublishedWeights

AGAIN_S = 0.2  # between two tries to reach a board that died


class WeightBoard:
    """Holds the newest published weights by reference. As a Ray actor it answers in a millisecond or two."""

    def __init__(self) -> None:
        self._edition = NONE
        self._boxed: list[Any] = []

    def put(self, edition: Edition, boxed: list[Any]) -> None:
        """Keep the reference of `edition` and let go of the older one. The list keeps Ray from resolving it. The same edition
        once more is the same learner, who did not hear the answer."""
        if edition < self._edition:
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

    def republish_if_lost(self) -> None:
        if self._published[1] and self.newest() == NONE:
            self._put()

    def _put(self) -> None:
        self._ask(lambda: self._board.put.remote(*self._published), "the weight board to take a version")

    def newest(self) -> Edition:
        newest: Edition = self._ask(lambda: self._board.newest.remote(), "the weight board to tell its newest version")
        return newest

    def pull(self) -> PublishedWeights | None:
        boxed = self._ask(lambda: self._board.get.remote(), "the weight board to hand out its newest version")
        if not boxed:
            return None
        try:
            weights: PublishedWeights = self._wait(boxed[0], self._timeout_s, "the newest weights to arrive")
        except ray.exceptions.ObjectLostError:  # they lived in the process of the learner that put them there
            return None
        return weights

    def _ask(self, ask: Callable[[], Any], what: str) -> Any:
        """The board's answer, which Ray starts again when it dies. Ray could repeat the question too, but it writes so into
        the driver's terminal, even where a stage ends and takes its board and its workers with it."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return self._wait(ask(), max(0.0, deadline - time.monotonic()), what)
            except ray.exceptions.RayActorError as error:
                if time.monotonic() > deadline:
                    raise self._late(what) from error
                time.sleep(AGAIN_S)

    def _wait(self, ref: Any, seconds: float, what: str) -> Any:
        try:
            return ray.get(ref, timeout=seconds)
        except ray.exceptions.GetTimeoutError as error:
            raise self._late(what) from error

    def _late(self, what: str) -> TimeoutError:
        return TimeoutError(f"process {os.getpid()} waited {self._timeout_s:.0f} s for {what}")
