"""Newer weights, fetched and verified in a thread of their own while the rollout actor goes on; only the load stops decoding.

start_if_newer ─▶ [ thread: pull, verify ] ─▶ take ─▶ the actor loads them between two decode steps
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from buffer.weights import NONE, Edition, PublishedWeights, WeightSource


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedWeights:
    """Weights that are here, whole and newer than those in force."""

    weights: PublishedWeights
    """To be loaded."""
    started_at: float
    """When their fetch began, by the monotonic clock."""


class WeightFetch:
    """One fetch at a time. All methods are called by the actor's thread."""

    def __init__(self, source: WeightSource) -> None:
        """Fetches nothing yet.

        Args:
            source: Where newer weights come from. Its `pull` is called in the fetch's thread, its `newest` in the actor's.
        """
        self._source = source
        self._under_way: Future[FetchedWeights | None] | None = None
        self._newest = NONE  # when the fetch under way began

    @property
    def under_way(self) -> Sequence[Future[FetchedWeights | None]]:
        """The fetch that was started and not taken, if there is one: to be waited for beside others."""
        return () if self._under_way is None else (self._under_way,)

    def start_if_newer(self, edition: Edition) -> None:
        """Begin to fetch the newest weights, unless they are no newer than `edition` or a fetch is under way."""
        if self._under_way is None and (newest := self._source.newest()) > edition:
            self._under_way, self._newest = Future(), newest
            # a daemon: a transport that hangs must not keep a process alive that is to end
            threading.Thread(target=self._fetch, args=(self._under_way, edition), name="weight-fetch", daemon=True).start()

    def replaces(self, edition: Edition) -> bool:
        """Returns whether weights are on their way whose learner replaced that of `edition`."""
        return self._under_way is not None and self._newest.incarnation > edition.incarnation

    def take(self) -> FetchedWeights | None:
        """Returns what has arrived; None while nothing has, or if the weights were lost with the learner that published them.
        Raises what the fetch raised."""
        if self._under_way is None or not self._under_way.done():
            return None
        done, self._under_way = self._under_way, None
        return done.result()

    def _fetch(self, future: Future[FetchedWeights | None], edition: Edition) -> None:
        started_at = time.monotonic()
        try:
            weights = self._source.pull()
            if weights is not None:
                weights.verify(newer_than=edition)
        except BaseException as error:  # of any kind: the actor raises it
            future.set_exception(error)
        else:
            future.set_result(None if weights is None else FetchedWeights(weights=weights, started_at=started_at))
