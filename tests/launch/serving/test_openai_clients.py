"""The installed openai client against the server: chat completions, decisions, models; with the settings of those who use it.

Of callers that bring their own rule for errors only the rule is a fake (verifiers, SkyRL, ROLL, OpenEnv); the client is real.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx2
import openai
import pytest

from launch.serving.chat import chat
from launch.serving.decisions import decisions
from launch.serving.protocol import ChatRequest, VerdictRequest
from launch.serving.systemone import systemone
from tests.launch.serving.fake_service import FakeService, Live, first, live, not_now, unreadable

ASKED: list[Any] = [{"role": "user", "content": "Is 7 prime?"}]
BEST: Any = {
    "type": "choice",
    "name": "best",
    "instructions": "Which is right?",
    "choices": [{"value": "r0", "description": "aaaa"}, {"value": "r1", "description": "aa"}],
}
GRADE = {
    "model": "judge",
    "state": {"question": "Name a prime.", "response": "aaaaaaaaaa", "answer": "7"},
    "questions": {"grade": {"type": "score", "instructions": "Is it right?", "criteria": ["wrong", "partly", "right"]}},
}


@pytest.fixture
def service() -> FakeService:
    return FakeService(deadline_s=0.2)


@pytest.fixture
def server(service: FakeService) -> Iterator[Live]:
    with live(service, *(partial(route, pause_s=0.01) for route in (chat, decisions, systemone))) as running:
        yield running


def client(server: Live, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="someone", max_retries=retries)


def test_decisions_create(server: Live, service: FakeService) -> None:
    service.unread = 1
    levels: Any = [{"label": str(place)} for place in range(1, 11)]
    score: Any = {"type": "score", "instructions": "How good?", "levels": levels}
    turns: Any = [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": "aaaaaaa"}]
    questions: Any = [BEST, score, {"type": "predicate", "instructions": "Good?"}]
    decision = client(server).decisions.create(model="judge", input=turns, questions=questions, safety_identifier="u")
    choice, score, predicate = decision.answers
    assert choice.type == "choice"
    assert (choice.choice, [each.probability for each in choice.probabilities], choice.confidence) == ("r0", [1.0, 0.0], 0.5)
    assert score.type == "score"
    assert (score.score, score.probabilities[6].probability) == (6.0, 1.0), "levels 0..9 are the scores 1..10"
    assert predicate.type == "predicate"
    assert predicate.probability == 1.0
    assert decision.usage.output_tokens == decision.usage.output_tokens_details.reasoning_tokens == 3 * 2 * 11
    extra = choice.model_extra
    assert extra is not None
    assert extra["judgements"][1]["critique"] == "Response 1 has some.", "the client keeps a field that it does not know"
    assert extra["votes"] == {"asked": 2, "cast": 1, "unparsable": 1, "cut": 0}
    asked = [each for each in service.requests if isinstance(each, VerdictRequest)]
    assert (asked[0].query, asked[0].responses) == ("User: Name a prime.\n\nAssistant: aaaaaaa", ("aaaa", "aa"))
    assert (asked[1].query, asked[1].responses) == ("Name a prime.", ("aaaaaaa",))
    assert "score 7: 7" in asked[1].criteria[1]


def test_a_question_without_a_verdict_is_a_refusal_beside_the_others(server: Live, service: FakeService) -> None:
    calls = iter([unreadable, lambda: None])
    service.fail = lambda: next(calls)()
    questions: Any = [{"type": "predicate", "instructions": "Good?", "name": "p"}, BEST]
    one, other = client(server).decisions.create(model="judge", input="aaa", questions=questions).answers
    assert {one.type, other.type} == {"refusal", "choice"} or {one.type, other.type} == {"refusal", "predicate"}
    assert [each.name for each in (one, other)] == ["p", "best"]


def test_nothing_judged_is_an_error(server: Live, service: FakeService) -> None:
    service.fail = unreadable
    with pytest.raises(openai.InternalServerError, match="none of 4 judgements could be read") as raised:
        client(server).decisions.create(model="judge", input="a", questions=[BEST])
    assert raised.value.status_code == 503


def test_the_clients_own_tries_end_in_a_verdict(server: Live, service: FakeService) -> None:
    service.fail, service.deadline_s = first(2), 0.0
    decision = client(server, retries=2).decisions.create(model="judge", input="a", questions=[BEST])
    assert decision.answers[0].type == "choice"
    assert service.calls == 3


def test_chat_completions_create(server: Live, service: FakeService) -> None:
    answer = client(server).chat.completions.create(model="judge", messages=ASKED, n=2, temperature=0.5, max_tokens=9, seed=4)
    assert [each.message.content for each in answer.choices] == ["You said: Is 7 prime?"] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 10)
    assert service.requests == [
        ChatRequest(tenant="someone", message="Is 7 prime?", samples=2, temperature=0.5, max_tokens=9, seed=4)
    ]
    assert [each.id for each in client(server).models.list()] == ["judge"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"stream": True}, "stream"), ({"logprobs": True}, "logprobs"), ({"extra_body": {"top_k": 4}}, "top_k"), ({"n": 0}, "n")],
)
def test_what_would_change_the_answer_is_refused_by_name(server: Live, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(openai.BadRequestError, match=named):
        client(server).chat.completions.create(model="judge", messages=ASKED, **fields)


def test_another_model_is_not_found(server: Live) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has 'judge'"):
        client(server).chat.completions.create(model="gpt-6", messages=ASKED)


def test_verifiers_judge_raises_where_nothing_was_judged(server: Live, service: FakeService) -> None:
    """verifiers 0.4.0: AsyncOpenAI with `max_retries=0` and no read time-out; an error marks the rollout, it scores nothing."""

    async def rubric() -> str | None:
        asked = openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="k", max_retries=0, timeout=httpx2.Timeout(None, connect=30.0)
        )
        answer = await asked.chat.completions.create(model="judge", messages=ASKED)
        return answer.choices[0].message.content

    assert asyncio.run(rubric()) == "You said: Is 7 prime?"
    service.fail = first(2)
    assert asyncio.run(rubric()) == "You said: Is 7 prime?", "no replica for a while is waited out: it asks once"
    service.fail = not_now
    with pytest.raises(openai.InternalServerError):
        asyncio.run(rubric())
    server.kill()
    with pytest.raises(openai.APIConnectionError):
        asyncio.run(rubric())


def test_verifiers_decision_is_a_reward_in_0_to_1(server: Live, service: FakeService) -> None:
    """verifiers 0.4.0 posts to its base_url as the whole address; score / (levels - 1) is the reward."""

    def reward() -> float:
        answer = httpx2.post(f"{server.url}/v1/systemone", json=GRADE, timeout=30)
        answer.raise_for_status()
        score = answer.json()["answers"]["grade"]["score"] / 2
        assert 0 <= score <= 1
        return score

    assert reward() == 1.0
    request = service.requests[0]
    assert isinstance(request, VerdictRequest)
    assert (request.query, request.responses, request.reference) == ("Name a prime.", ("aaaaaaaaaa",), "7")
    assert request.criteria[1] == "Levels, worst first:\nscores 1 to 3: wrong\nscores 4 to 7: partly\nscores 8 to 10: right"
    service.fail = not_now
    with pytest.raises(httpx2.HTTPStatusError):
        reward()


@pytest.mark.parametrize("caller", ["SkyRL 0.3", "ROLL llm_judge", "OpenEnv 0.10"])
def test_environments_with_a_rule_of_their_own_see_an_error(server: Live, service: FakeService, caller: str) -> None:
    """They make 0.0 of an error: nothing of ours. What they are told is a 503, and no text that could be read as a grade."""
    service.fail = not_now
    tries = {"SkyRL 0.3": 1, "ROLL llm_judge": 3, "OpenEnv 0.10": 1}[caller]
    for _ in range(tries):
        with pytest.raises(openai.InternalServerError):
            client(server).chat.completions.create(model="judge", messages=ASKED)
    service.fail = lambda: None
    assert client(server).chat.completions.create(model="judge", messages=ASKED).choices[0].message.content
