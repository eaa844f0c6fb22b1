"""What lives and dies together: a worker alone, or all ranks of a learner. A group that died is made again, as a whole.

              begin              mark_ready               drain
      ENDED ─────────▶ MAKING ─────────▶ READY ─────────────▶ DRAINING
        ▲               │  ▲ └─ replace    │                    │
        │               │  └── replace ────┤                    │
        └──────── end ──┴──────── end ─────┴──────── end ───────┘

This class alone changes the state, and refuses every other transition. A group that drains is not replaced: it was to go.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any


class State(Enum):
    """Where a group stands between two of its methods."""

    ENDED = "ended"
    """It has no actors: before the first `begin`, and after `end`."""
    MAKING = "making"
    """Its actors are being made; they answer nothing yet."""
    READY = "ready"
    """Its actors can be given work."""
    DRAINING = "draining"
    """Its actors finish or give back what they have, and are given nothing new."""


class IllegalTransition(RuntimeError):
    """A group was asked for a change that its state does not allow: an error in the program."""


class ActorGroup:
    """Actors with one life: they are made, become ready, drain and end together. None of its methods waits."""

    def __init__(
        self,
        name: str,
        *,
        make: Callable[[], Mapping[str, Any]],
        start: Callable[[Sequence[Any]], list[Any]],
        end: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Makes no actors yet.

        Args:
            name: For people.
            make: Returns new actors by the names of their heartbeats.
            start: Returns the calls of these actors that answer when they are ready.
            end: Ends actors, given by the names of their heartbeats.
        """
        self.name = name
        self._make, self._start, self._end = make, start, end
        self._state = State.ENDED
        self._made: Mapping[str, Any] = {}
        self._ready_calls: list[Any] = []

    @property
    def state(self) -> State:
        """Where the group stands."""
        return self._state

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the actors' heartbeats."""
        return tuple(self._made)

    @property
    def actors(self) -> list[Any]:
        """The actors; none where the group has ended."""
        return list(self._made.values())

    @property
    def ready_calls(self) -> list[Any]:
        """The calls that answer when the actors are ready: then `mark_ready` is due."""
        return self._ready_calls

    def begin(self) -> None:
        """Make the actors: ENDED -> MAKING."""
        self._require("begin", State.ENDED)
        self._made = self._make()
        self._ready_calls = self._start(self.actors)
        self._state = State.MAKING

    def mark_ready(self) -> None:
        """All calls in `starting` were answered: MAKING -> READY."""
        self._require("be ready", State.MAKING)
        self._ready_calls = []
        self._state = State.READY

    def drain(self) -> None:
        """Nothing new for the actors from now on: READY -> DRAINING. (One that is being made is ended instead.)"""
        self._require("drain", State.READY)
        self._state = State.DRAINING

    def replace(self) -> None:
        """End what is left of the actors and make new ones: MAKING or READY -> MAKING."""
        self._require("be replaced", State.MAKING, State.READY)
        self.end()
        self.begin()

    def end(self) -> None:
        """End what is left of the actors: any state -> ENDED; harmless when the group has ended."""
        self._end(self._made)
        self._made, self._ready_calls = {}, []
        self._state = State.ENDED

    def _require(self, what: str, *states: State) -> None:
        if self._state not in states:
            raise IllegalTransition(f"{self.name} is {self._state.value} and cannot {what}")
