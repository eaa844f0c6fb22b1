"""What a request to an endpoint holds beside its own fields, and what of an answer is read."""

from contextlib import closing
from typing import Any

import pytest

from launch.judging.endpoint import Endpoint, EndpointLimits
from launch.judging.protocol import Answer, JudgeRequest
from tests.launch.judging.fake_server import FakeServer, Reply, completion

LIMITS = EndpointLimits(tries=1, timeout_s=20.0)


def test_more_fields_of_a_request_are_sent_when_given_and_thoughts_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def thinks(body: dict[str, Any]) -> Reply:
        reply = completion("Scores: \\boxed{7, 8}")
        for choice in reply[1]["choices"]:
            choice["message"]["reasoning_content"] = "Scores: \\boxed{1, 1}"
        return reply

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked = JudgeRequest(message="x", samples=1, temperature=0.0, max_new_tokens=64, seed=1)
    fields = {"chat_template_kwargs": {"enable_thinking": False}}
    with closing(FakeServer()) as server:
        server.reply = thinks
        for extra, sent in ((None, {}), ({}, {}), (fields, fields)):
            with closing(Endpoint(server.url, "judge", limits=LIMITS, extra_body=extra)) as endpoint:
                ((answer,),) = endpoint.judge([asked])  # type: ignore[misc]
            assert answer.text == "Scores: \\boxed{7, 8}"
            assert {key: value for key, value in server.asked[-1].items() if key == "chat_template_kwargs"} == sent


@pytest.mark.parametrize(
    ("message", "text", "thought"),
    [
        ({"content": "a"}, "a", ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c", 7]}, "abc", ""),
        ({"content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]}, "a", "t"),
        ({"content": "a", "reasoning": "t"}, "a", "t"),
        ({"content": None, "reasoning_content": "t"}, "", "t"),
        ({"content": None, "refusal": "no"}, "no", ""),
        ({"content": "a", "refusal": "no"}, "a", ""),
        ({"tool_calls": []}, "", ""),
    ],
)
def test_what_is_read_of_a_message(message: dict[str, Any], text: str, thought: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked = JudgeRequest(message="x", samples=1, temperature=0.0, max_new_tokens=64, seed=1)
    with closing(FakeServer()) as server, closing(Endpoint(server.url, "judge", limits=LIMITS)) as endpoint:
        server.reply = lambda body: (200, {"choices": [{"message": message}]}, {})
        ((answer,),) = endpoint.judge([asked])  # type: ignore[misc]
    assert isinstance(answer, Answer)
    assert (answer.text, answer.thought, answer.refused) == (text, thought, text == "no")
