"""Waiting for verdicts: whoever goes away takes no judge along."""

import asyncio
import contextvars
from collections.abc import Sequence

import pytest

from buffer.cohorts import Look
from launch.serving.watch import Lost, Watch

REQUEST = contextvars.ContextVar("REQUEST", default="none")  # as Ray Serve has one, by which it cancels what a request began


class SlowJudges:
    """Judges when the test says so, and notes in whose name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def judge(self, cohort: str) -> bytes:
        self.asked.append(REQUEST.get())
        await self.go.wait()
        return b"verdict"


async def nothing_new(cohorts: Sequence[str]) -> list[Look]:
    return [looked(None) for _ in cohorts]


def looked(verdict: bytes | None, *, leased_s: float = 9) -> Look:
    return Look(state="judged" if verdict else "ready", closes_s=0, due_s=9, leased_s=leased_s, votes=0, verdict=verdict)


def test_a_judgement_belongs_to_no_request_and_outlives_the_one_that_began_it() -> None:
    async def run() -> tuple[bytes, list[str]]:
        judges = SlowJudges()
        watch = Watch(judges, nothing_new, limit_s=30)
        REQUEST.set("first")
        first = asyncio.create_task(watch.verdict("c", free=True, timeout_s=30))
        second = asyncio.create_task(watch.verdict("c", free=True, timeout_s=30))
        while not judges.asked:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        judges.go.set()
        return await second, judges.asked

    assert asyncio.run(run()) == (b"verdict", ["none"])


def test_who_waits_for_a_judge_that_hangs_gets_the_verdict_of_another() -> None:
    async def elsewhere(cohorts: Sequence[str]) -> list[Look]:
        return [looked(b"of another") for _ in cohorts]

    async def run() -> bytes:
        return await Watch(SlowJudges(), elsewhere, limit_s=30).verdict("c", free=True, timeout_s=10)

    assert asyncio.run(run()) == b"of another"


def test_a_judge_that_hangs_is_given_up_and_the_next_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.serving.watch.RETRY_S", 0.0)

    async def free(cohorts: Sequence[str]) -> list[Look]:
        return [looked(None, leased_s=0) for _ in cohorts]

    async def run() -> bytes:
        judges = SlowJudges()
        waiting = asyncio.create_task(Watch(judges, free, limit_s=0.05).verdict("c", free=True, timeout_s=10))
        while len(judges.asked) < 2:
            assert not waiting.done(), waiting
            await asyncio.sleep(0.01)
        judges.go.set()
        return await waiting

    assert asyncio.run(run()) == b"verdict"


def test_who_waits_for_what_the_store_has_lost_is_told() -> None:
    async def lost(cohorts: Sequence[str]) -> list[Look]:
        return [Look(state="gone", closes_s=0, due_s=0, leased_s=0, votes=0, verdict=None) for _ in cohorts]

    with pytest.raises(Lost, match="cohort c"):
        asyncio.run(Watch(SlowJudges(), lost, limit_s=30).verdict("c", free=False, timeout_s=60))
