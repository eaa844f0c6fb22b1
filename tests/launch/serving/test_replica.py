"""A judge that is slow, cut off, or loses a vote: what it holds meanwhile, and what counts in the end."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from buffer.connection import Address
from launch.serving.core import Core
from launch.serving.protocol import CohortMember, VerdictRequest
from launch.serving.replica import JudgeReplica
from tests.launch.judging.fake_judge import vote_plan_of
from tests.launch.serving.small_server import BAD, GOOD, LetterTokenizer, SmallServer, until


class SlowMeta:
    """In place of a meta-RM: it scores when the test says so, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked, self.go = 0, threading.Event()

    def logits(self, plan: object, question: object, samples: Sequence[Any]) -> list[float]:
        self.asked += 1
        assert self.go.wait(30)
        return [1.0 for _ in samples]


def pair(**more: Any) -> VerdictRequest:
    return VerdictRequest(**{"tenant": "a", "query": "q", "responses": (BAD, GOOD)} | more)


def test_a_cohort_in_line_for_the_meta_rm_stays_with_its_judge(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.serving.replica.LEASE_S", 2.0)
    scorer = SlowMeta()
    server = SmallServer(address, scorer=scorer, meta=True)
    other = Core(server.settings, server.cohorts, server.judges)  # another HTTP worker, which looks for cohorts that nobody has

    async def run() -> Any:
        asked = [asyncio.create_task(core.judge(pair())) for core in (server.core, other)]
        await until(lambda: scorer.asked)
        await asyncio.sleep(3.0)  # longer than a lease
        scorer.go.set()
        return await asyncio.gather(*asked)

    assert [verdict.scores for verdict in asyncio.run(run())] == [(2, 9)] * 2
    assert scorer.asked == 1


def test_a_judge_that_is_cut_off_gives_its_cohort_back(address: Address) -> None:
    server = SmallServer(address)
    server.engine.automatic = False

    async def run() -> bool:
        asked = asyncio.create_task(server.core.judge(pair()))
        await until(lambda: sum(server.engine.asked.values()) == 4)
        (cohort,) = server.core._watch._running
        call = server.core._watch._running[cohort]
        call.cancel()
        await asyncio.wait([call])
        (look,) = server.cohorts.look([cohort])
        server.engine.automatic = True
        assert (await asked).scores == (2, 9)
        return look.leased_s == 0

    assert asyncio.run(run()), "others need not wait until its lease runs out"
    assert server.engine.aborted == 4


def test_votes_that_came_count_at_the_deadline_though_the_engine_lost_another(address: Address) -> None:
    server = SmallServer(address)
    server.engine.automatic = False

    async def run() -> Any:
        asked = asyncio.create_task(server.core.judge(pair(deadline_s=3.0)))
        await until(lambda: sum(server.engine.asked.values()) == 4)
        server.engine.finish(2)
        ((_, lost), *_) = server.engine._running
        server.engine._running.pop(0)
        lost.set_exception(RuntimeError("out of memory"))
        return await asked

    verdict = asyncio.run(run())
    assert (verdict.cast, verdict.cut, verdict.scores) == (2, 2, (2, 9))
    assert server.judges.calls == 1, "by the judge that has them"


def test_a_member_in_a_hurry_does_not_end_the_time_of_the_others(address: Address) -> None:
    server = SmallServer(address)
    server.engine.automatic = False

    def member(slot: int, **more: Any) -> CohortMember:
        return CohortMember(tenant="a", query="q", response=(BAD, GOOD)[slot], group="g", slot=slot, size=2, **more)

    async def run() -> Any:
        patient = asyncio.create_task(server.core.member(member(0)))
        await until(server.cohorts.ages)
        hurried = asyncio.create_task(server.core.member(member(1, deadline_s=0.3)))
        await until(lambda: server.engine.aborted == 4)
        await asyncio.sleep(0.4)  # its deadline is over, and no vote was there
        server.engine.automatic = True
        server.engine.finish()
        return await asyncio.gather(patient, hurried)

    assert [each.score for each in asyncio.run(run())] == [2, 9]


def test_votes_of_a_judge_that_died_are_the_verdict_behind_the_deadline(address: Address) -> None:
    server = SmallServer(address)

    async def run() -> Any:
        dead = server.judges.replicas[0]
        server.engine.automatic = False
        asked = asyncio.create_task(server.core.judge(pair(deadline_s=3.0)))
        await until(lambda: sum(server.engine.asked.values()) == 4)
        server.engine.finish(3)
        (cohort,) = server.core._watch._running
        await until(lambda: [look.votes for look in server.cohorts.look([cohort])] == [3])
        server.core._watch._running[cohort].cancel()  # and it gives the cohort back
        how: dict[str, Any] = {"tokenizer": LetterTokenizer(), "plan": vote_plan_of(), "context": 2000, "meta": None}
        server.judges.replicas[0] = JudgeReplica(engine=server.engine, cohorts=server.cohorts, owner="next", **how)
        assert dead is not server.judges.replicas[0]
        return await asked

    verdict = asyncio.run(run())
    assert (verdict.cast, verdict.cut) == (3, 1)


def test_a_critique_is_kept_once(address: Address) -> None:
    server = SmallServer(address)
    verdict = asyncio.run(server.core.judge(pair()))
    assert {each.text for each in verdict.judgements} == {""}
    assert all(each.principles and each.critique for each in verdict.judgements)
