"""Requests become cohorts, and cohorts verdicts: with the real store and judge, and a fake engine."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from buffer.cohorts import Cohorts, Look, Refused
from buffer.connection import Address, ServerError, connect
from grm.preferences import Question, question_id
from launch.serving.errors import BadRequest, SlotTaken, TooLarge, TooMany, Unjudged
from launch.serving.protocol import ChatRequest, CohortMember, MemberVerdict, VerdictRequest
from tests.launch.judging.fake_judge import vote_plan_of
from tests.launch.serving.small_server import BAD, FAIR, GOOD, SmallServer, until

PAIR = VerdictRequest(tenant="a", query="q", responses=(BAD, GOOD))


def request(**changes: Any) -> VerdictRequest:
    return VerdictRequest(**{"tenant": "a", "query": "q", "responses": (BAD, GOOD)} | changes)


def member(response: str, **changes: Any) -> CohortMember:
    return CohortMember(**{"tenant": "a", "query": "q", "response": response, "group": "g", "size": 3} | changes)


def test_a_verdict_says_all_that_the_votes_say(address: Address) -> None:
    server = SmallServer(address)
    verdict = asyncio.run(server.core.judge(PAIR))
    assert (verdict.scores, verdict.totals, verdict.shares) == ((2, 9), (8, 36), (0, 1))
    assert (verdict.asked, verdict.cast, verdict.unparsable, verdict.cut) == (4, 4, 0, 0)
    assert (verdict.size, verdict.short, verdict.policy_version) == (2, False, 7)
    assert verdict.vote_scores == ((2, 9),) * 4
    assert verdict.completion_tokens == 16
    assert {each.order for each in verdict.judgements} == {(0, 1), (1, 0)}
    assert server.core.served().policy_version == 7


def test_the_votes_are_those_of_an_evaluation(address: Address) -> None:
    server = SmallServer(address)
    asyncio.run(server.core.judge(request(votes=3)))
    name = question_id("q", (BAD, GOOD))
    asked = vote_plan_of(k=3).votes(Question(id=name, query="q", responses=(BAD, GOOD)))
    seeds = sorted(each.request.seed + number for each in asked for number in range(each.request.samples))
    assert sorted(seed for _, seed in server.engine.asked) == seeds


def test_the_same_request_again_pays_nothing(address: Address) -> None:
    server = SmallServer(address)

    async def ask() -> list[str]:
        both = await asyncio.gather(server.core.judge(PAIR), server.core.judge(PAIR))
        return [each.request_hash for each in (*both, await server.core.judge(PAIR))]

    hashes = asyncio.run(ask())
    assert len(set(hashes)) == 1
    assert set(server.engine.asked.values()) == {1}
    assert sum(server.engine.asked.values()) == 4
    asyncio.run(server.core.judge(request(tenant="b")))
    assert sum(server.engine.asked.values()) == 8, "tenants share nothing"


def test_an_idempotency_key_that_is_taken_is_refused(address: Address) -> None:
    server = SmallServer(address)
    first = asyncio.run(server.core.judge(request(idempotency_key="k")))
    assert asyncio.run(server.core.judge(request(idempotency_key="k"))) == first
    for changed in ({"responses": (BAD, FAIR)}, {"query": "another"}, {"votes": 3}, {"responses": (BAD,)}):
        with pytest.raises(SlotTaken):
            asyncio.run(server.core.judge(request(idempotency_key="k", **changed)))


def gathered(server: SmallServer, members: Sequence[CohortMember]) -> list[Any]:
    async def ask() -> list[Any]:
        return await asyncio.gather(*map(server.core.member, members), return_exceptions=True)

    return asyncio.run(ask())


def test_members_that_come_alone_are_judged_beside_each_other(address: Address) -> None:
    server = SmallServer(address)
    found = gathered(server, [member(GOOD, slot=2), member(BAD, slot=0), member(FAIR, slot=1)])
    assert all(isinstance(each, MemberVerdict) for each in found)
    assert [(each.score, each.total, each.share, each.slot) for each in found] == [(9, 36, 1, 2), (2, 8, 0, 0), (6, 24, 0, 1)]
    assert len({each.verdict for each in found}) == 1
    assert sum(server.engine.asked.values()) == 4
    again = gathered(server, [member(GOOD, slot=2)])
    assert again == [found[0]]
    assert [type(each) for each in gathered(server, [member(BAD, slot=2)])] == [SlotTaken]
    assert [type(each) for each in gathered(server, [member(GOOD, slot=2, query="other")])] == [SlotTaken]
    assert sum(server.engine.asked.values()) == 4


def test_a_cohort_that_stays_short_is_judged_and_says_so(address: Address) -> None:
    server = SmallServer(address)
    found = gathered(server, [member(GOOD, slot=2, collect_s=0.2), member(BAD, slot=0, collect_s=0.2)])
    assert [each.verdict.short for each in found] == [True, True]
    assert [(each.verdict.size, len(each.verdict.scores), each.score) for each in found] == [(3, 2, 9), (3, 2, 2)]
    (late,) = gathered(server, [member(FAIR, slot=1)])
    assert isinstance(late, Unjudged)
    assert late.final


def test_members_without_slots_find_each_other_and_begin_anew(address: Address) -> None:
    server = SmallServer(address)
    first = gathered(server, [member(text, group="", size=2) for text in (GOOD, BAD)])
    assert [each.score for each in first] == [9, 2]
    second = gathered(server, [member(text, group="", size=2) for text in (FAIR, "another")])
    assert [each.score for each in second] == [6, 5]
    assert {each.attempt for each in first} == {0}
    assert {each.attempt for each in second} == {1}
    assert gathered(server, [member(BAD, group="", size=2)]) == [first[1]]
    twins = gathered(server, [member("twin", group="", size=2) for _ in range(2)])
    assert [each.score for each in twins] == [5, 5]
    assert not twins[0].verdict.short, "both came"


class SlowStore(Cohorts):
    """The first join of a response ends when the test says so, and the first leave fails, as while the store restarts."""

    def __init__(self, address: Address, held: str) -> None:
        super().__init__(connect(address), address.run_id)
        self.reached, self.go = threading.Event(), threading.Event()
        self._held = {held}
        self.calls: list[str] = []

    def join(self, cohort: str, responses: Mapping[int, str], **how: Any) -> Look | Refused:
        held = self._held & set(responses.values())
        if held:
            self._held.clear()
            self.reached.set()
            assert self.go.wait(20)
        joined = super().join(cohort, responses, **how)
        self.calls.append("held join" if held else "join")
        return joined

    def leave(self, cohort: str, ticket: str) -> None:
        self.calls.append("leave")
        if self.calls.count("leave") == 1:
            raise ServerError("the store restarts")
        super().leave(cohort, ticket)


def test_who_hangs_up_while_it_joins_and_asks_again_is_one_member(address: Address) -> None:
    cohorts = SlowStore(address, held=BAD)
    server = SmallServer(address, cohorts=cohorts)
    group = [member(text, group="", size=3) for text in (BAD, FAIR, GOOD)]

    async def ask() -> list[Any]:
        hung_up = asyncio.create_task(server.core.member(group[0]))
        await until(cohorts.reached.is_set)
        hung_up.cancel()
        again = [asyncio.create_task(server.core.member(each)) for each in group[:2]]
        await until(lambda: cohorts.calls.count("join") == 2)
        cohorts.go.set()
        await until(lambda: cohorts.calls.count("leave") == 2)
        await asyncio.sleep(1.2)  # twins are counted by now
        assert not any(each.done() for each in again), "two of three"
        return await asyncio.gather(*again, server.core.member(group[2]))

    found = asyncio.run(ask())
    assert [(each.score, each.verdict.short) for each in found] == [(2, False), (6, False), (9, False)]
    assert cohorts.calls == ["join", "join", "held join", "leave", "leave", "join"]


def test_who_comes_after_a_short_cohort_without_a_slot_gets_one_of_the_next(address: Address) -> None:
    server = SmallServer(address)
    (alone,) = gathered(server, [member(GOOD, group="", size=2, collect_s=0.1)])
    assert alone.verdict.short
    late = gathered(server, [member(BAD, group="", size=2), member(FAIR, group="", size=2)])
    assert [(each.score, each.attempt) for each in late] == [(2, 1), (6, 1)]


def test_the_deadline_is_answered_from_the_votes_that_are_there(address: Address) -> None:
    server = SmallServer(address)
    server.engine.automatic = False

    async def ask() -> Any:
        asked = asyncio.create_task(server.core.judge(request(deadline_s=3.0)))
        await until(lambda: sum(server.engine.asked.values()) == 4)
        server.engine.finish(3)
        return await asked

    verdict = asyncio.run(ask())
    assert (verdict.asked, verdict.cast, verdict.cut) == (4, 3, 1)
    assert verdict.scores == (2, 9)
    assert server.engine.aborted == 1, "nobody waits for it, so the engine does not go on"
    assert asyncio.run(server.core.judge(request(deadline_s=3.0))) == verdict, "it is the verdict now"


def test_without_a_vote_there_is_no_number_and_a_retry_goes_on(address: Address) -> None:
    server = SmallServer(address)
    server.engine.automatic = False
    with pytest.raises(Unjudged) as refused:
        asyncio.run(asyncio.wait_for(server.core.judge(request(deadline_s=0.3)), 20))
    assert not refused.value.final
    server.engine.automatic = True
    assert asyncio.run(server.core.judge(PAIR)).scores == (2, 9)


def test_what_cannot_be_read_is_refused_once_and_for_all(address: Address) -> None:
    server = SmallServer(address)
    for _ in range(2):
        with pytest.raises(Unjudged, match="none of 4 judgements could be read") as refused:
            asyncio.run(server.core.judge(request(responses=("unreadable", GOOD))))
        assert refused.value.final
    assert sum(server.engine.asked.values()) == 4


def test_a_prompt_that_is_too_long_is_refused(address: Address) -> None:
    server = SmallServer(address)
    with pytest.raises(TooLarge, match="the limit is 2000"):
        asyncio.run(server.core.judge(request(query="q" * 3000)))
    assert not server.engine.asked


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"responses": ()}, "responses"),
        ({"responses": ("r",) * 65}, "responses"),
        ({"votes": 0}, "votes"),
        ({"votes": 65}, "votes"),
        ({"meta": True}, "meta"),
        ({"deadline_s": 0.0}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"query": "\ud800"}, "query"),
        ({"responses": ("\udfff",)}, "responses"),
        ({"criteria": (3,)}, "criteria"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(address: Address, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asyncio.run(SmallServer(address).core.judge(request(**changes)))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"), [({"slot": 3}, "slot"), ({"slot": -1}, "slot"), ({"size": 0}, "size"), ({"attempt": -1}, "attempt")]
)
def test_a_member_out_of_range_is_refused(address: Address, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asyncio.run(SmallServer(address).core.member(member(GOOD, **changes)))
    assert refused.value.field == field


def test_more_cohorts_than_the_server_holds_are_refused(address: Address) -> None:
    server = SmallServer(address, most_cohorts=1)

    async def ask() -> Any:
        waits = asyncio.create_task(server.core.member(member(GOOD, slot=0)))
        await until(lambda: server.cohorts.ages())
        with pytest.raises(TooMany):
            await server.core.judge(PAIR)
        waits.cancel()

    asyncio.run(ask())


class FakeMeta:
    """In place of a meta-RM: believes in judgements that saw the first response first."""

    def logits(self, plan: object, question: object, samples: Sequence[Any]) -> list[float]:
        return [2.0 if order == (0, 1) else -2.0 for order, _ in samples]


def test_the_meta_rm_chooses_which_votes_count(address: Address) -> None:
    server = SmallServer(address, scorer=FakeMeta(), meta=True)
    verdict = asyncio.run(server.core.judge(PAIR))
    assert (verdict.asked, verdict.cast) == (4, 2)
    assert {each.order for each in verdict.judgements if each.voted} == {(0, 1)}
    assert asyncio.run(server.core.judge(request(meta=False))).cast == 4


def test_the_judge_answers_as_a_plain_model(address: Address) -> None:
    server = SmallServer(address)
    answered = asyncio.run(server.core.chat(ChatRequest(tenant="a", message="hello", samples=2, seed=5)))
    assert [answer.finish for answer in answered.answers] == ["stop", "stop"]
    assert answered.prompt_tokens == 5
    assert list(server.engine.asked) == [(tuple(map(ord, "hello")), 5)]
    with pytest.raises(BadRequest):
        asyncio.run(server.core.chat(ChatRequest(tenant="a", message="hello", samples=0)))


def test_an_engine_that_dies_gives_its_cohort_back_at_once(address: Address) -> None:
    server = SmallServer(address)
    server.engine.dead = True

    async def ask() -> Any:
        asked = asyncio.create_task(server.core.judge(PAIR))
        await until(lambda: server.judges.calls > 0)
        server.engine.dead = False
        return await asked

    assert asyncio.run(asyncio.wait_for(ask(), 8)).scores == (2, 9), "before the lease runs out"
