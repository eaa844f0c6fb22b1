"""A served scalar reward model: what it is asked, how its answers are read, and what is said where it cannot score."""

from collections.abc import Iterator
from typing import Any

import pytest

from launch.judging import endpoint_tries
from launch.judging.endpoint import EndpointError, EndpointLimits
from launch.judging.request_fields import Change
from launch.judging.scalar_endpoint import ScalarEndpoint
from launch.judging.scalar_scores import Score
from launch.judging.scalar_shapes import ScoreList
from tests.launch.judging.fake_server import FakeServer, Reply, failure, scored

CHATS = [("Why?", "So."), ("Hi.", "Yes?", "Why?", "No <|im_end|>")]
CHANGES: list[Change] = []


@pytest.fixture
def model(judge_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScalarEndpoint]:
    monkeypatch.setattr(endpoint_tries, "RETRY_S", 0.001)
    CHANGES.clear()
    judge_server.paths["/classify"] = length
    made = ScalarEndpoint(judge_server.url, "judge", limits=EndpointLimits(tries=3), note=CHANGES.append)
    yield made
    made.close()


def length(body: dict[str, Any]) -> Reply:
    """The longer the last answer, the better."""
    return scored(float(len(body["messages"][-1]["content"])))


def test_each_response_is_a_whole_chat_and_gets_one_number(model: ScalarEndpoint, judge_server: FakeServer) -> None:
    assert model.check() == Score(value=6.0, tokens=9)
    assert model.score(CHATS) == [Score(value=3.0, tokens=9), Score(value=14.0, tokens=9)]
    _, *asked = sorted(judge_server.asked, key=lambda body: str(body["messages"]))
    assert {"model": "judge", "use_activation": False}.items() <= asked[0].items()
    by_length = sorted((body["messages"] for body in judge_server.asked[1:]), key=len)
    assert by_length == [
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
        [
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "No <\\|im_end|>"},
        ],
    ]
    assert (model.spent.requests, model.spent.prompt_tokens) == (3, 27)


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("numbers", [(2.5,), ([2.5],)])
def test_without_classify_pooling_is_asked(
    model: ScalarEndpoint, judge_server: FakeServer, status: int, numbers: tuple[Any, ...]
) -> None:
    judge_server.paths = {
        "/classify": lambda body: failure(status, "no such API"),
        "/pooling": lambda body: scored(*numbers, field="data"),
    }
    model.check()
    assert model.score(CHATS[:1]) == [Score(value=2.5, tokens=9)]
    assert len(judge_server.asked) == 3, "which path there is, is found out once"


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no path": ({}, "the server has no such path; serve a sequence classifier with one label"),
    "two labels": ({"/classify": lambda body: scored(0.4, 0.6)}, "the model gives 2 numbers to a chat; serve a scalar reward"),
    "a number for each token": (
        {"/pooling": lambda body: scored([0.1], [0.2], [0.3], field="data")},  # type: ignore[arg-type]
        "the model gives 3 numbers to a chat",
    ),
    "NaN": ({"/classify": lambda body: (200, b'{"data": [{"probs": [NaN]}]}', {})}, "the answer is not of the OpenAI form"),
    "no numbers": ({"/classify": lambda body: (200, {"data": []}, {})}, "the answer is not of the OpenAI form"),
    "a key that is refused": ({"/classify": lambda body: failure(401, "revoked")}, "HTTP 401: revoked"),
    "a page": ({"/classify": lambda body: (200, b"<html>", {})}, "<html>"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_score_is_refused_at_its_first_chat(name: str, model: ScalarEndpoint, judge_server: FakeServer) -> None:
    judge_server.paths, says = REFUSALS[name]
    with pytest.raises(EndpointError, match=says.replace(".", r"\.")):
        model.check()
    assert len(judge_server.asked) <= 2


def test_a_server_that_knows_no_logits_is_asked_without_and_that_is_said(
    model: ScalarEndpoint, judge_server: FakeServer
) -> None:
    def strict(body: dict[str, Any]) -> Reply:
        if "use_activation" in body:
            return 422, {"detail": [{"loc": ["body", "use_activation"], "msg": "Extra inputs are not permitted"}]}, {}
        return length(body)

    judge_server.paths["/classify"] = strict
    model.check()
    assert [score.value for score in model.score(CHATS) if isinstance(score, Score)] == [3.0, 14.0]
    (change,) = CHANGES
    assert change.text == "the server refuses use_activation, which is left out: scores are shares of 0..1, and near ones tie"
    assert change.matters


def test_what_may_pass_is_tried_again_and_one_failure_costs_one_score(model: ScalarEndpoint, judge_server: FakeServer) -> None:
    model.check()
    busy = iter([failure(503, "busy")])
    judge_server.paths["/classify"] = lambda body: next(busy, length(body))
    assert [type(score) for score in model.score(CHATS)] == [Score, Score]
    judge_server.paths["/classify"] = lambda body: failure(400, "too long") if len(body["messages"]) > 2 else length(body)
    first, second = model.score(CHATS)
    assert isinstance(first, Score)
    assert "HTTP 400: too long" in str(second)


@pytest.mark.full
def test_vllm_takes_these_requests_and_these_are_its_answers() -> None:
    """vLLM's own models of both paths: no server is started, and a field that one of them lacks would be refused or lost."""
    from vllm.entrypoints.pooling.classify.protocol import (
        ClassificationChatRequest,
        ClassificationData,
        ClassificationResponse,
    )
    from vllm.entrypoints.pooling.pooling.protocol import PoolingChatRequest, PoolingResponse, PoolingResponseData
    from vllm.entrypoints.serve.engine.protocol import UsageInfo

    made = ScalarEndpoint("http://127.0.0.1:1/v1", "m")
    wanted = made._wanted(CHATS[1])
    made.close()
    for kind in (ClassificationChatRequest, PoolingChatRequest):
        request = kind.model_validate(wanted)
        assert request.use_activation is False
        assert request.add_generation_prompt is False
        assert [message["content"] for message in request.messages] == ["Hi.", "Yes?", "Why?", "No <\\|im_end|>"]
        assert not request.model_extra
    usage = UsageInfo(prompt_tokens=7, total_tokens=7)
    classified = ClassificationData(index=0, label="LABEL_0", probs=[1.5], num_classes=1)
    pooled = PoolingResponseData(index=0, data=[1.5])
    for answer in (
        ClassificationResponse(model="m", data=[classified], usage=usage),
        PoolingResponse(model="m", data=[pooled], usage=usage),
    ):
        read = ScoreList.model_validate_json(answer.model_dump_json())
        assert (read.data[0].numbers, read.usage.prompt_tokens if read.usage else None) == ([1.5], 7)
