"""Each trainer that asks over HTTP, against a judge that is dead, not there yet, late, dies half-way, or cannot be read: where
it ends, and that nobody trains on a number that nobody judged.

The trainers are fakes with the real time-outs and tries (`trainers.py`), which are shortened; HTTP is real.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI

from launch.serving.errors import Unjudged
from launch.serving.nemo_gym import nemo_gym as nemo_gym_routes
from launch.serving.openrlhf import openrlhf as openrlhf_routes
from launch.serving.protocol import CohortMember
from launch.serving.slime import slime as slime_routes
from launch.serving.wire_route import held
from tests.launch.serving.fake_service import FakeService, Live, called, first, live, not_now, rule, unreadable
from tests.launch.serving.trainers import Ended, Pace, RolloutEnded, miles, nemo_gym, openrlhf, slime

PACE = Pace()
PATIENT = Pace(limits=1 / 10, pauses=1 / 4)  # while a server starts again
PROMPT = "<|im_start|>user\nName a prime.<|im_end|>\n<|im_start|>assistant\n"
QUICK = {"pause_s": 0.01}
Call = Callable[[str], Awaitable[Ended]]


def rollout(response: str, *, slot: int = 0, group: str = "g", attempt: int = 0) -> dict[str, Any]:
    return {
        "responses_create_params": {"input": [{"role": "user", "content": "Name a prime."}]},
        "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": response}]}]},
        "_ng_group_id": group,
        "_ng_group_attempt": attempt,
        "_ng_rollout_index": slot,
    }


def calls(response: str = "aaa", pace: Pace = PACE) -> dict[str, Call]:
    """Each caller, with what it asks; the address of the server comes later."""
    return {
        "OpenRLHF": lambda url: openrlhf(f"{url}/get_reward", PROMPT + response, PROMPT, pace=pace),
        "slime": lambda url: slime(f"{url}/slime", "Name a prime.", response, pace=pace),
        "Miles": lambda url: miles(f"{url}/slime", "Name a prime.", response, pace=pace),
        "NeMo-Gym": lambda url: nemo_gym(f"{url}/verify", rollout(response), pace=pace),
    }


CALLERS = list(calls())


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Live, FakeService]]:
    service, routes = FakeService(), (openrlhf_routes, slime_routes, nemo_gym_routes)
    with live(service, *(partial(route, **QUICK) for route in routes)) as server:
        yield server, service


@pytest.fixture
def service(running: tuple[Live, FakeService]) -> FakeService:
    """The core, as new."""
    vars(running[1]).update(vars(FakeService(deadline_s=0.2)))
    return running[1]


@pytest.fixture
def server(running: tuple[Live, FakeService], service: FakeService) -> Live:
    """The server, alive again where a test killed it."""
    if running[0].dead:
        running[0].again()
    return running[0]


def outcome(call: Call, url: str) -> Ended | str:
    """How a call ends: what the trainer has, or "raised"."""
    try:
        return asyncio.run(asyncio.wait_for(call(url), 60))
    except (RolloutEnded, aiohttp.ClientError):
        return "raised"


@pytest.mark.parametrize("caller", CALLERS)
def test_a_judge_that_is_well(server: Live, service: FakeService, caller: str) -> None:
    ended = outcome(calls()[caller], server.url)
    assert isinstance(ended, Ended)
    assert (ended.reward, ended.tries, ended.masked) == (rule("aaa"), 1, False)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_server_that_is_dead(server: Live, caller: str) -> None:
    server.kill()
    if caller == "NeMo-Gym":  # waits without end
        tries = iter(range(100))
        body = rollout("aaa")
        with pytest.raises(RolloutEnded, match="still waiting"):
            asyncio.run(nemo_gym(f"{server.url}/verify", body, pace=PACE, enough=lambda: next(tries) > 20))
        return
    ended = outcome(calls()[caller], server.url)
    if caller == "OpenRLHF":
        assert isinstance(ended, Ended)
        assert (ended.reward, ended.tries) == (None, 5), "a line in its log, and no reward"
    else:
        assert ended == "raised"


@pytest.mark.parametrize("caller", CALLERS)
def test_no_replica_for_a_while_is_waited_out_within_one_try(server: Live, service: FakeService, caller: str) -> None:
    service.fail = first(3)
    ended = outcome(calls()[caller], server.url)
    assert isinstance(ended, Ended)
    assert (ended.reward, ended.tries, service.calls) == (3.0, 1, 4)


@pytest.mark.parametrize("caller", CALLERS)
def test_no_replica_at_all_is_refused_late(server: Live, service: FakeService, caller: str) -> None:
    service.fail = not_now

    async def timed() -> tuple[Ended | str, float]:
        began = asyncio.get_running_loop().time()
        try:
            ended: Ended | str = await calls()[caller](server.url)
        except (RolloutEnded, aiohttp.ClientError):
            ended = "raised"
        return ended, asyncio.get_running_loop().time() - began

    ended, took = asyncio.run(timed())
    if caller == "OpenRLHF":
        assert isinstance(ended, Ended)
        assert (ended.reward, ended.tries) == (None, 5)
        assert took >= 5 * service.deadline_s, "each of its tries is held: refused at once, all five were gone in four seconds"
    else:
        assert ended == "raised"
        assert took >= service.deadline_s


@pytest.mark.parametrize("caller", CALLERS)
def test_judgements_that_cannot_be_read_are_no_number(server: Live, service: FakeService, caller: str) -> None:
    service.fail = unreadable
    ended = outcome(calls()[caller], server.url)
    asked = {"OpenRLHF": 5, "slime": 10}.get(caller, 1)
    assert service.calls == asked, "it is not held: the same request never gets a verdict"
    if caller == "NeMo-Gym":
        assert isinstance(ended, Ended)
        assert ended.masked, "its 0 fills a place; the row is left out of the loss"
        assert ended.body["failure_reason"].startswith("none of 4 judgements could be read")
    elif caller == "OpenRLHF":
        assert isinstance(ended, Ended)
        assert (ended.reward, ended.tries) == (None, 5)
    else:
        assert ended == "raised"


@pytest.mark.parametrize(("caller", "patience_s"), [("OpenRLHF", 180), ("slime", 120)])
def test_an_answer_that_comes_too_late_is_there_for_the_next_try(
    server: Live, service: FakeService, caller: str, patience_s: float
) -> None:
    service.late_s = [2 * PACE.limit(patience_s)]
    ended = outcome(calls()[caller], server.url)
    assert isinstance(ended, Ended)
    assert (ended.reward, ended.tries, service.judged) == (3.0, 2, 1), "votes are paid for once"


@pytest.mark.parametrize("caller", CALLERS)
def test_a_server_that_dies_while_it_waits_for_a_group(server: Live, service: FakeService, caller: str) -> None:
    """It is killed between two members; each that comes again finds its group, which is judged once for all."""
    service.size, service.deadline_s = 2, 30.0
    one, two = calls("aa", PATIENT)[caller], calls("aaaaa", PATIENT)[caller]
    if caller == "NeMo-Gym":
        two = lambda url: nemo_gym(f"{url}/verify", rollout("aaaaa", slot=1), pace=PATIENT)  # noqa: E731

    async def half_way() -> list[Ended | BaseException]:
        waiting = asyncio.create_task(one(server.url))
        await called(service, waiting)
        await asyncio.to_thread(server.kill)
        server.again()
        return await asyncio.gather(waiting, two(server.url), return_exceptions=True)

    first_one, second = asyncio.run(asyncio.wait_for(half_way(), 60))
    if caller == "Miles":  # it asks once, so its rollout ends; the other member is judged all the same
        assert isinstance(first_one, aiohttp.ClientError)
    else:
        assert isinstance(first_one, Ended)
        assert first_one.reward == rule("aa")
    assert isinstance(second, Ended)
    assert (second.reward, service.judged) == (rule("aaaaa"), 1)


def test_what_makes_no_sense_is_refused_at_once(server: Live, service: FakeService) -> None:
    ended = outcome(lambda url: openrlhf(f"{url}/get_reward", "something else", PROMPT, pace=PACE), server.url)
    assert isinstance(ended, Ended)
    assert (ended.reward, ended.tries, service.calls) == (None, 5, 0)
    assert "400" in ended.body


def test_a_slot_takes_one_response(server: Live, service: FakeService) -> None:
    async def thrice() -> list[Any]:
        url = f"{server.url}/verify"
        whole = await nemo_gym(url, rollout("aaa"), pace=PACE)
        again = await nemo_gym(url, rollout("aaa"), pace=PACE)
        other = await asyncio.gather(nemo_gym(url, rollout("aaaa"), pace=PACE), return_exceptions=True)
        later = await nemo_gym(url, rollout("aaaa", attempt=1), pace=PACE)
        return [whole, again, *other, later]

    whole, again, other, later = asyncio.run(thrice())
    assert whole.body == again.body
    assert isinstance(other, RolloutEnded)
    assert "409" in str(other)
    assert (later.reward, service.judged) == (4.0, 2)


def test_a_group_of_one_prompt_is_one_judgement(server: Live, service: FakeService) -> None:
    service.size, service.deadline_s = 8, 30.0
    responses = ["a" * (place + 1) for place in range(8)]

    async def group() -> list[Ended]:
        return await asyncio.gather(*(calls(each)["OpenRLHF"](server.url) for each in responses))

    ended = asyncio.run(group())
    assert [each.reward for each in ended] == [rule(each) for each in responses]
    assert service.judged == 1


def test_a_group_that_stays_short_says_so(server: Live, service: FakeService) -> None:
    service.size, service.collect_s = 4, 0.05
    ended = outcome(calls()["OpenRLHF"], server.url)
    assert isinstance(ended, Ended)
    assert (ended.reward, ended.body["extra_logs"]["cohort_missing"]) == (3.0, [3.0])


def test_a_request_that_is_cut_off_when_the_server_stops_is_told_to_come_again(service: FakeService) -> None:
    """uvicorn cancels what it does not wait for any longer, and would answer 500 itself."""
    app, sent = FastAPI(), []
    app.include_router(slime_routes(service))
    service.size = 2  # so that the request waits for another one
    body = b'{"prompt": "q", "response": "a"}'
    scope = {"type": "http", "method": "POST", "path": "/slime", "query_string": b"", "state": {"tenant": "t"}}
    scope |= {"headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    async def cut_off() -> None:
        serving = asyncio.create_task(app(scope, receive, send))
        await called(service, serving)
        serving.cancel()
        await serving

    asyncio.run(cut_off())
    assert sent[0]["status"] == 503
    assert b"the server stops; ask again" in sent[1]["body"]


def test_a_core_that_hangs_freezes_nobody(service: FakeService) -> None:
    """The core keeps its own deadline; should it not, the route ends the wait."""

    async def hung(member: CohortMember) -> None:
        await asyncio.Event().wait()

    member = CohortMember(tenant="t", query="q", response="r")
    with pytest.raises(Unjudged, match="the core gave no answer"):
        asyncio.run(held(hung, member, 0.05, grace_s=0.05))


def test_each_further_question_to_the_core_has_the_time_that_is_left() -> None:
    asked: list[float | None] = []

    async def busy(member: CohortMember) -> None:
        asked.append(member.deadline_s)
        raise Unjudged("not now", final=False)

    member = CohortMember(tenant="t", query="q", response="r")
    with pytest.raises(Unjudged, match="not now"):
        asyncio.run(held(busy, member, 0.2, pause_s=0.02, grace_s=0.01))
    first_time, *later = asked
    assert first_time is None
    assert later == sorted(later, reverse=True)
    assert all(0 < each < 0.2 for each in later)
