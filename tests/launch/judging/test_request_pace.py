"""When requests may start, on a clock of the test's own."""

import asyncio
from typing import Any

import pytest

from launch.judging.request_pace import PAUSES_S, EndpointLimits, RequestPace


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now(self) -> float:
        return self.s

    async def sleep(self, seconds: float) -> None:
        self.s += seconds


def starts(pace: RequestPace, clock: Clock, *tokens: int) -> list[float]:
    """Seconds after the first at which requests start that are made one after the other."""

    async def all_of_them() -> list[float]:
        found = []
        for each in tokens:
            await pace.turn(each)
            found.append(clock.s)
        return found

    found = asyncio.run(all_of_them())
    return [round(each - found[0], 3) for each in found]


def made(**limits: Any) -> tuple[RequestPace, Clock]:
    clock = Clock()
    return RequestPace(EndpointLimits(**limits), now=clock.now, sleep=clock.sleep), clock


def test_without_limits_nothing_waits() -> None:
    assert starts(*made(), 100, 100, 100) == [0, 0, 0]


def test_requests_per_minute_are_spread() -> None:
    assert starts(*made(requests_per_minute=30), 9, 9, 9) == [0, 2, 4]


def test_tokens_per_minute_are_spread_by_size_and_settled_by_use() -> None:
    pace, clock = made(tokens_per_minute=6000)
    assert starts(pace, clock, 100, 300, 100) == [0, 1, 4]
    pace.settle(100, 600)
    assert starts(pace, clock, 100)[0] == 0
    assert round(clock.s - 1000, 3) == 4 + 1 + 5, "the last one took 600 tokens: six seconds"


def test_a_pause_is_for_all_and_grows_until_an_answer_comes() -> None:
    pace, clock = made()
    for pause in (*PAUSES_S, PAUSES_S[-1]):
        before = clock.s
        pace.pause(None)
        pace.pause(None)  # of the same moment
        asyncio.run(pace.turn(1))
        assert clock.s - before == pytest.approx(pause, abs=16), "and the spacing behind the one before"
        assert clock.s - before >= pause
    pace.settle(1, 1)
    before = clock.s
    pace.pause(None)
    asyncio.run(pace.turn(1))
    assert clock.s - before < PAUSES_S[1] + 16


def test_behind_a_pause_requests_start_one_after_the_other() -> None:
    pace, clock = made()
    pace.pause(1.0)
    assert starts(pace, clock, 1, 1, 1) == [0, 0.25, 0.5]


def test_those_that_wait_when_a_pause_begins_keep_their_distances() -> None:
    """Ten at once, one a second; half a second after the first a pause of 30 s begins."""
    now, sleeping, started = [0.0], list[tuple[float, asyncio.Event]](), list[float]()

    async def sleep(seconds: float) -> None:
        sleeping.append((now[0] + seconds, woken := asyncio.Event()))
        await woken.wait()

    async def ends_at(until: float) -> None:
        """Let the clock run, and whoever sleeps until then wake."""
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            due = min((each for each in sleeping if each[0] <= until), default=None, key=lambda each: each[0])
            if due is None:
                now[0] = until
                return
            sleeping.remove(due)
            now[0] = due[0]
            due[1].set()

    async def one(pace: RequestPace) -> None:
        await pace.turn(1)
        started.append(now[0])

    async def ten() -> None:
        pace = RequestPace(EndpointLimits(requests_per_minute=60), now=lambda: now[0], sleep=sleep)
        asked = [asyncio.create_task(one(pace)) for _ in range(10)]
        await ends_at(0.5)
        pace.pause(30.0)
        await ends_at(35.2)
        asked.append(asyncio.create_task(one(pace)))
        await ends_at(100.0)
        await asyncio.gather(*asked)

    asyncio.run(ten())
    assert started == pytest.approx([0, *range(31, 41)]), "the eleventh behind the ten"


@pytest.mark.parametrize("limits", [{"requests_per_minute": -1}, {"tokens_per_minute": -1}])
def test_a_limit_without_sense_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give 0 for no limit"):
        EndpointLimits(**limits)  # type: ignore[arg-type]
