"""A server in one process: the real core, the real store, a real judge replica; the engine and the tokenizer are fakes."""

import asyncio
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Self

import httpx
import uvicorn

from actors.generator import Request
from buffer.cohorts import Cohorts
from buffer.connection import Address, connect
from buffer.messages import Completion
from launch.serving.app import make_app
from launch.serving.core import Core
from launch.serving.door import Keys
from launch.serving.interfaces import INTERFACES
from launch.serving.protocol import ChatAnswer, ChatRequest
from launch.serving.replica import JudgeReplica
from launch.serving.settings import ServerSettings
from tests.fakes import FakeEngine
from tests.launch.judging.fake_judge import vote_plan_of

SHOWN = re.compile(r"\[The Begin of Response \d+\]\n(.*?)\n\[The End of Response", re.DOTALL)
GOOD, FAIR, BAD = "a good answer", "a fair answer", "a bad answer"
WORTH = {GOOD: 9, FAIR: 6, BAD: 2}


class LetterTokenizer:
    """In place of a tokenizer: a token for each character."""

    def escape_special_tokens(self, text: str) -> str:
        return text.replace("<|end|>", "<\\|end|>")

    def encode(self, message: str) -> tuple[int, ...]:
        return tuple(map(ord, message))


def judgement(request: Request, sample: int) -> str:
    """What the fake engine writes: a score for each response by its text, or none where one says "unreadable"."""
    message = "".join(map(chr, request.token_ids))
    shown = SHOWN.findall(message)
    if any("unreadable" in text for text in shown):
        return "I would rather not."
    scores = ", ".join(str(WORTH.get(text, 5)) for text in shown)
    return f"Specific Criteria: 1. accuracy (100%)\nAnalysis: as they are.\nScores: \\boxed{{{scores}}}"


class CountingEngine(FakeEngine):
    """Counts what it is asked for; the test lets it finish where `automatic` is off."""

    def __init__(self) -> None:
        super().__init__(judgement)
        self.asked: Counter[tuple[tuple[int, ...], int | None]] = Counter()
        self.aborted = 0
        self.dead = False

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        if self.dead:
            raise RuntimeError("the engine has ended")
        for request in requests:
            self.asked[request.token_ids, request.seed] += 1
        return super().submit(requests)

    def abort(self, futures: Sequence[Future[tuple[Completion, ...]]]) -> None:
        with self._lock:
            ended = [pair for pair in self._running if pair[1] in futures]
            self._running = [pair for pair in self._running if pair[1] not in futures]
        for _, future in ended:
            self.aborted += 1
            future.set_exception(RuntimeError("aborted"))


class LocalJudges:
    """In place of Ray Serve's handle: the replicas of this process in turn."""

    def __init__(self, replicas: Sequence[JudgeReplica]) -> None:
        self.replicas = list(replicas)
        self.calls = 0

    async def judge(self, cohort: str) -> bytes | None:
        self.calls += 1
        return await self.replicas[self.calls % len(self.replicas)].judge(cohort)

    async def chat(self, request: ChatRequest, seconds: float) -> ChatAnswer:
        return await self.replicas[0].chat(request, seconds)


class SmallServer:
    """One HTTP worker and one judge."""

    def __init__(
        self, address: Address, keys: Keys | None = None, scorer: Any = None, cohorts: Cohorts | None = None, **changes: Any
    ) -> None:
        self.settings = ServerSettings(**{"model": "small", "votes": 4, "collect_s": 20.0, "deadline_s": 30.0} | changes)
        self.cohorts = cohorts or Cohorts(connect(address), address.run_id, most=self.settings.most_cohorts)
        self.engine = CountingEngine()
        self.replica = JudgeReplica(
            engine=self.engine,
            tokenizer=LetterTokenizer(),
            plan=vote_plan_of(),
            context=2000,
            cohorts=self.cohorts,
            meta=scorer,
            owner="judge",
            version=7,
        )
        self.judges = LocalJudges([self.replica])
        self.elsewhere: dict[str, str] = {}  # what other nodes have counted
        self.core = Core(self.settings, self.cohorts, self.judges)
        self.app = make_app(
            self.core,
            INTERFACES,
            settings=self.settings,
            keys=keys or Keys(None),
            ready=self.core.ready,
            ages=self.core.ages,
            others=self.others,
        )

    async def others(self) -> dict[str, str]:
        return self.elsewhere

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://server")

    async def post(self, path: str, body: Any, **how: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.post(path, json=body, **how)


class OverHttp:
    """A server at a real port of loopback, in a thread with an event loop of its own. Leaving the block stops it."""

    def __init__(self, server: SmallServer) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        how = uvicorn.Config(server.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)  # type: ignore[arg-type]
        self._server = uvicorn.Server(how)
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._listening]), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(30)
        self._listening.close()


async def until(condition: Any) -> None:
    """Waits for an effect."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in 60 s")


def wait_until(condition: Any) -> None:
    """Waits for an effect, without an event loop."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 60 s"
        time.sleep(0.01)
