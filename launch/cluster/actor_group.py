"""What lives and dies together: a worker alone, or all ranks of a learner. A group that died is made again, as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class ActorGroup:
    """Actors, and how they come to be.

    name: for people. make: {the name of its heartbeat: a new actor}. start: the references that answer when they are ready.
    end: ends actors, given with the names of their heartbeats. None of them waits.
    """

    def __init__(
        self,
        name: str,
        *,
        make: Callable[[], Mapping[str, Any]],
        start: Callable[[Sequence[Any]], list[Any]],
        end: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.name = name
        self._make, self._start, self._end = make, start, end
        self._made: Mapping[str, Any] = {}
        self.ready = self.leaving = False
        self.refs: list[Any] = []

    @property
    def members(self) -> tuple[str, ...]:
        """The names of their heartbeats."""
        return tuple(self._made)

    @property
    def actors(self) -> list[Any]:
        return list(self._made.values())

    def begin(self) -> list[Any]:
        """Make the actors; the references that answer when they are ready (who waits for them sets `ready`)."""
        self.ready = False
        self._made = self._make()
        self.refs = self._start(self.actors)
        return self.refs

    def end(self) -> None:
        """End what is left of them, for ever; harmless when nothing is."""
        self._end(self._made)
        self.ready, self._made = False, {}

    def replace(self) -> list[Any]:
        """End what is left of them and make new ones."""
        self.end()
        return self.begin()
