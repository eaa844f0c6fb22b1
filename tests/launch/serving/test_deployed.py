"""The processes of the server as Ray Serve makes them, without Ray: a handle stands for the judges."""

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest

from buffer.connection import Address
from launch.judging.prepared_judge import prepare
from launch.judging.protocol import Answer
from launch.serving.deployed import HttpWorker, RemoteJudges
from launch.serving.errors import TooLarge, Unjudged
from launch.serving.protocol import ChatAnswer, ChatRequest
from launch.serving.settings import ServerSettings
from tests.launch.whole_run import LENGTHS

ANSWER = ChatAnswer(answers=(Answer(text="a", tokens=1, finish="stop"),), prompt_tokens=3)
ASKED = ChatRequest(tenant="t", message="m")


class Method:
    """A method of a handle: `remote` is awaited."""

    def __init__(self, result: Any) -> None:
        self._result = result

    async def remote(self, *_: object) -> Any:
        if isinstance(self._result, Exception) and not isinstance(self._result, TooLarge):
            raise self._result
        return self._result


class Handle:
    """In place of Ray Serve's handle."""

    def __init__(self, result: Any) -> None:
        self.judge = self.chat = Method(result)


def test_an_answer_a_refusal_and_a_death_come_through_the_handle() -> None:
    assert asyncio.run(RemoteJudges(Handle(ANSWER)).chat(ASKED, 1.0)) == ANSWER
    assert asyncio.run(RemoteJudges(Handle(b"verdict")).judge("c")) == b"verdict"
    with pytest.raises(TooLarge):
        asyncio.run(RemoteJudges(Handle(TooLarge("no"))).chat(ASKED, 1.0))
    with pytest.raises(Unjudged, match="the judge failed \\(RuntimeError\\)") as refused:
        asyncio.run(RemoteJudges(Handle(RuntimeError("actor died"))).chat(ASKED, 1.0))
    assert not refused.value.final


def test_a_worker_makes_its_app_in_its_own_process(address: Address, tmp_path: Path) -> None:
    settings = pickle.loads(pickle.dumps(ServerSettings(model="small", deadline_s=0.2, collect_s=0.1)))
    log = tmp_path / "log" / "server.jsonl"
    worker = HttpWorker(settings, pickle.loads(pickle.dumps(address)), log, None, judges=Handle(None))

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=worker.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            served, ready = await client.get("/v1/served"), await client.get("/readyz")
            assert served.json()["model"] == "small"
            return [served.status_code, ready.status_code]

    assert asyncio.run(ask()) == [200, 200]
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["route"], row["status"]) for row in rows] == [("/v1/served", 200), ("/readyz", 200)]


def test_a_judge_that_was_checked_can_be_sent_to_another_process() -> None:
    made = prepare("tiny", model="", meta_rm="", engine="vllm", device="cpu", seed=0, overrides=LENGTHS)
    sent = pickle.loads(pickle.dumps(made))
    assert (sent.config, sent.found, sent.plan) == (made.config, made.found, made.plan)
    assert sent.tokenizer.encode("hello") == made.tokenizer.encode("hello")
