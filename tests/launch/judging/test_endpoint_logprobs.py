"""Expected scores of a served judge: what is asked of the server, and what is made of its log-probs, or of none."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from grm.expected_scores import expected_scores
from launch.judging.endpoint import Endpoint, EndpointError
from launch.judging.protocol import JudgeRequest
from tests.launch.judging.fake_server import FakeServer, Reply, completion
from tests.launch.judging.test_endpoint import environment, made, server

__all__ = ["environment", "made", "server"]  # fixtures


def request(alternatives: int) -> JudgeRequest:
    return JudgeRequest(message="q", samples=1, temperature=0.0, max_new_tokens=64, seed=1, alternatives=alternatives)


def telling(*tokens: tuple[str, dict[str, float]]) -> Reply:
    """An answer whose tokens come with these probabilities."""
    status, body, headers = completion("".join(text for text, _ in tokens), tokens=len(tokens))
    content: list[dict[str, Any]] = [
        {
            "token": text,
            "logprob": math.log(0.5),
            "bytes": None,
            "top_logprobs": [{"token": name, "logprob": math.log(share), "bytes": None} for name, share in top.items()],
        }
        for text, top in tokens
    ]
    body["choices"][0]["logprobs"] = {"content": content, "refusal": None}
    return status, body, headers


def test_the_alternatives_of_a_score_are_asked_for_and_read(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: telling(("\\boxed{", {}), ("7", {"7": 0.5, "9": 0.5}), ("}", {"}": 1.0}))
    ((answer,),) = made(server.url).judge([request(20)])  # type: ignore[misc]
    assert (server.asked[0]["logprobs"], server.asked[0]["top_logprobs"]) == (True, 20)
    assert expected_scores(answer.choices, (7,)) == pytest.approx((8.0,))


def test_a_token_that_is_not_among_the_likeliest_counts_too(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: telling(("boxed{", {}), ("7", {"9": 0.5}), ("}", {}))
    ((answer,),) = made(server.url).judge([request(1)])  # type: ignore[misc]
    assert expected_scores(answer.choices, (7,)) == pytest.approx((8.0,))


def test_nothing_is_asked_for_without_need(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    ((answer,),) = made(server.url).judge([request(0)])  # type: ignore[misc]
    assert not {"logprobs", "top_logprobs"} & server.asked[0].keys()
    assert answer.choices == ()


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}, "some", {"content": [{"token": "7"}]}])
def test_a_server_that_tells_no_log_probs_is_named(logprobs: Any, server: FakeServer, made: Callable[..., Endpoint]) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        status, answer, headers = completion("\\boxed{7}")
        answer["choices"][0]["logprobs"] = logprobs
        return status, json.loads(json.dumps(answer)), headers

    server.reply = reply
    (error,) = made(server.url).judge([request(20)])
    assert isinstance(error, EndpointError)
    assert "the answer holds no log-probs of its tokens" in str(error)
    assert str(error).endswith("judge with our own engines, or set eval.expected_scores=false")
