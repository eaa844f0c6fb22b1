"""One owner of an actor group's life: every transition, and every one that is refused."""

from collections.abc import Callable

import pytest

from launch.cluster.actor_group import ActorGroup, IllegalTransition, State

Change = Callable[[ActorGroup], None]
BEGIN, IS_UP, DRAIN, REPLACE, END = (
    ActorGroup.begin,
    ActorGroup.mark_ready,
    ActorGroup.drain,
    ActorGroup.replace,
    ActorGroup.end,
)
WAYS: dict[State, tuple[Change, ...]] = {
    State.ENDED: (),
    State.MAKING: (BEGIN,),
    State.READY: (BEGIN, IS_UP),
    State.DRAINING: (BEGIN, IS_UP, DRAIN),
}
ALLOWED = {
    (State.ENDED, BEGIN): State.MAKING,
    (State.MAKING, IS_UP): State.READY,
    (State.READY, DRAIN): State.DRAINING,
    (State.MAKING, REPLACE): State.MAKING,
    (State.READY, REPLACE): State.MAKING,
    **{(state, END): State.ENDED for state in State},
}


class Made:
    """A group of one actor, which is a number here, and what was done with the actors."""

    def __init__(self) -> None:
        self.count = 0
        self.ended: list[dict[str, int]] = []
        self.group = ActorGroup(
            "a group",
            make=self._make,
            start=lambda actors: [f"start {actor}" for actor in actors],
            end=lambda made: self.ended.append(dict(made)),
        )

    def _make(self) -> dict[str, int]:
        self.count += 1
        return {f"member-{self.count}": self.count}


def in_state(state: State) -> Made:
    made = Made()
    for change in WAYS[state]:
        change(made.group)
    assert made.group.state is state
    return made


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("change", [BEGIN, IS_UP, DRAIN, REPLACE, END])
def test_a_state_allows_some_changes_and_refuses_the_others(state: State, change: Change) -> None:
    made = in_state(state)
    before = (made.group.members, made.count, len(made.ended))
    if (state, change) in ALLOWED:
        change(made.group)
        assert made.group.state is ALLOWED[state, change]
        return
    with pytest.raises(IllegalTransition, match=f"a group is {state.value} and cannot"):
        change(made.group)
    assert made.group.state is state
    assert (made.group.members, made.count, len(made.ended)) == before, "a refused change does nothing"


def test_a_group_has_actors_from_begin_to_end() -> None:
    made = in_state(State.MAKING)
    assert (made.group.members, made.group.actors, made.group.ready_calls) == (("member-1",), [1], ["start 1"])
    made.group.mark_ready()
    assert made.group.ready_calls == [], "there is nothing left to wait for"
    made.group.end()
    assert (made.group.members, made.group.actors, made.group.ready_calls) == ((), [], [])
    assert made.ended == [{"member-1": 1}]


def test_replacing_ends_the_old_actors_and_makes_new_ones() -> None:
    made = in_state(State.READY)
    made.group.replace()
    assert made.ended == [{"member-1": 1}]
    assert (made.group.members, made.group.ready_calls) == (("member-2",), ["start 2"])


def test_a_group_that_has_ended_can_begin_again() -> None:
    made = in_state(State.DRAINING)
    made.group.end()
    made.group.begin()
    assert made.group.members == ("member-2",)
