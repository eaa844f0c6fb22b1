"""How policy weights travel: through Ray's object store, by reference; a board holds the newest, Redis tells which it is.

learner ─┬─ put(version v, reference) ──▶ WeightBoard ◀── get ── rollout actors
         └─ announce v ──▶ Redis (`buffer.edition`) ◀── newest? many times a second ─┘
"""

import os
import time
from collections.abc import Callable
from typing import Any

import ray

from buffer.edition import announce_edition, announced_edition
from buffer.streams import Address, connect
from buffer.weights import NONE, Edition, PublishedWeights, WeightsRefused

AGAIN_S = 0.2  # between two tries to reach a board that died


class WeightBoard:
    """Holds the newest published weights by reference. As a Ray actor it answers in a millisecond or two."""

    def __init__(self) -> None:
        self._edition = NONE
        self._ref_list: list[Any] = []

    def put(self, edition: Edition, ref_list: list[Any]) -> None:
        """Keep the reference of `edition` and let go of the older one. The same edition may come again: its learner did not
        get the answer.

        Args:
            edition: Of the weights.
            ref_list: Their reference; the list keeps Ray from resolving it.

        Raises:
            WeightsRefused: A newer edition is here, so this learner was replaced.
        """
        if edition < self._edition:
            raise WeightsRefused(f"{edition} was published after {self._edition}: this learner was replaced")
        self._edition, self._ref_list = edition, ref_list

    def newest(self) -> Edition:
        """Returns the edition of what `get` returns."""
        return self._edition

    def get(self) -> list[Any]:
        """Returns the newest reference in a list, which is empty before the first."""
        return self._ref_list


class RayWeights:
    """`WeightSink` and `WeightSource` through Ray's object store: arrays are shared pages on a node, read-only."""

    def __init__(self, board: Any, address: Address, timeout_s: float) -> None:
        """Connects to nothing yet, so that it can be sent to another process.

        Args:
            board: The `WeightBoard` actor.
            address: Where the newest edition is announced, in the role of the process that uses this.
            timeout_s: For an answer of the board, and for weights to arrive.
        """
        self._board, self._address, self._timeout_s = board, address, timeout_s
        self._published: tuple[Edition, list[Any]] = (NONE, [])
        self._client: Any = None

    def publish(self, weights: PublishedWeights) -> None:
        """Make these weights the newest. They can be pulled before they are announced."""
        self._published = (weights.edition, [ray.put(weights)])
        self._put()
        announce_edition(self._redis(), self._address.run_id, weights.edition)

    def republish_if_lost(self) -> None:
        """Publish the newest again if the board died, and with it the reference."""
        if self._published[1]:
            newest = self._ask(lambda: self._board.newest.remote(), "the weight board to tell its newest version")
            if newest == NONE:
                self._put()

    def newest(self) -> Edition:
        """Returns the newest announced edition, NONE before the first."""
        return announced_edition(self._redis(), self._address.run_id)

    def pull(self) -> PublishedWeights | None:
        """Returns the newest weights; None while they are lost, with the learner or the board that held them."""
        ref_list = self._ask(lambda: self._board.get.remote(), "the weight board to hand out its newest version")
        if not ref_list:
            return None
        try:
            weights: PublishedWeights = self._wait(ref_list[0], self._timeout_s, "the newest weights to arrive")
        except ray.exceptions.ObjectLostError:  # they lived in the process of the learner that put them there
            return None
        return weights

    def _put(self) -> None:
        self._ask(lambda: self._board.put.remote(*self._published), "the weight board to take a version")

    def _redis(self) -> Any:
        if self._client is None:
            self._client = connect(self._address, timeout_s=self._timeout_s)
        return self._client

    def _ask(self, ask: Callable[[], Any], what: str) -> Any:
        """Returns the board's answer; Ray starts the board again when it dies, and the call is repeated. Ray could repeat it
        too, but it prints so into the driver's terminal, even where a stage ends with its board and its workers."""
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
