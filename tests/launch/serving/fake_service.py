"""A fake of the server's core, to inject faults: no engine, no Redis. It judges by a rule that the test can compute, keeps
verdicts as the core does, and fails as it is told. `Live` serves interfaces over it on a real port of loopback.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from grm.scored import Judgement, counted
from launch.judging.protocol import Answer
from launch.serving.errors import SlotTaken, Unjudged
from launch.serving.protocol import (
    ChatAnswer,
    ChatRequest,
    CohortMember,
    Interface,
    MemberVerdict,
    Served,
    Verdict,
    VerdictRequest,
)

K = 2


def rule(response: str) -> int:
    """The score of a response: one for each letter `a`, 1..10."""
    return min(10, max(1, response.count("a")))


def verdict_on(responses: Sequence[str], *, unread: int = 0, size: int = 0, asked: int = K) -> Verdict:
    """The verdict of `asked` votes, of which `unread` cannot be read and the others follow the rule."""
    read = Judgement(
        scores=tuple(float(rule(each)) for each in responses),
        principles="Count the letter.",
        critique="Response 1 has some.",
        text="…",
        order=tuple(range(len(responses))),
        tokens=11,
        version=3,
    )
    garbled = replace(read, scores=None, principles="", critique="", failure="no_box")
    scored = counted([*([garbled] * unread), *([read] * (asked - unread))])
    assert scored.scores
    assert scored.totals
    assert scored.shares
    return Verdict(
        request_hash=hashlib.sha256(json.dumps(list(responses)).encode()).hexdigest()[:16],
        policy_version=3,
        scores=scored.scores,
        totals=scored.totals,
        shares=scored.shares,
        judgements=scored.judgements,
        asked=asked,
        cut=0,
        prompt_tokens=7,
        size=size or len(responses),
    )


@dataclass
class Cohort:
    """A group that comes in."""

    members: list[str | None] = field(default_factory=list)
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: Verdict | None = None

    @property
    def came(self) -> list[str]:
        """Those that came, in the order of their slots."""
        return [each for each in self.members if each is not None]


@dataclass
class FakeService:
    """In place of the core. `fail` raises what the core would; what it lets through is judged."""

    size: int = 1
    deadline_s: float = 30.0
    collect_s: float = 20.0
    unread: int = 0
    fail: Callable[[], None] = lambda: None
    late_s: list[float] = field(default_factory=list)
    """How long the answers of the first calls come after their verdicts are there."""
    judged: int = 0
    """Verdicts that votes were paid for."""
    calls: int = 0
    requests: list[VerdictRequest | CohortMember | ChatRequest] = field(default_factory=list)
    _kept: dict[tuple[str, ...], Verdict] = field(default_factory=dict)
    _cohorts: dict[tuple[str, str, int], Cohort] = field(default_factory=dict)

    def served(self) -> Served:
        return Served(
            model="judge", votes=K, meta=False, size=self.size, collect_s=self.collect_s, deadline_s=self.deadline_s,
            policy_version=3,
        )  # fmt: skip

    async def judge(self, request: VerdictRequest) -> Verdict:
        await self._asked(request)
        key = (request.tenant, request.query, *request.responses)
        if key not in self._kept:
            self._kept[key] = self._vote(request.responses, len(request.responses))
        await self._late()
        return self._kept[key]

    async def member(self, member: CohortMember) -> MemberVerdict:
        await self._asked(member)
        size = member.size or self.size
        key = (member.tenant, member.group or member.query, member.attempt)
        cohort = self._cohorts.setdefault(key, Cohort())
        if not member.group and cohort.verdict and member.response not in cohort.members:
            cohort = self._cohorts[key] = Cohort()  # of a query, a new one begins when one is closed
        if member.slot is not None:
            cohort.members += [None] * (member.slot + 1 - len(cohort.members))
            if cohort.members[member.slot] not in (None, member.response):
                raise SlotTaken("another response has the slot", field="slot")
            cohort.members[member.slot] = member.response
        elif member.response not in cohort.members:
            cohort.members.append(member.response)
        if len(cohort.came) == size and cohort.verdict is None:
            cohort.verdict = self._vote(cohort.came, size)
            cohort.whole.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cohort.whole.wait(), self.collect_s)
        if cohort.verdict is None:
            cohort.verdict = self._vote(cohort.came, size)
            cohort.whole.set()
        await self._late()
        place = cohort.came.index(member.response)
        return MemberVerdict(
            verdict=cohort.verdict, place=place, group=key[1], attempt=member.attempt, slot=member.slot or place
        )

    async def chat(self, request: ChatRequest) -> ChatAnswer:
        await self._asked(request)
        answer = Answer(text=f"You said: {request.message}", tokens=5, finish="stop")
        return ChatAnswer(answers=(answer,) * request.samples, prompt_tokens=9)

    async def _asked(self, request: VerdictRequest | CohortMember | ChatRequest) -> None:
        self.calls += 1
        self.requests.append(request)
        self.fail()

    async def _late(self) -> None:
        if self.late_s:
            await asyncio.sleep(self.late_s.pop(0))

    def _vote(self, responses: Sequence[str], size: int) -> Verdict:
        self.judged += 1
        return verdict_on(responses, unread=self.unread, size=size)


def not_now() -> None:
    raise Unjudged("no replica runs; ask again", final=False)


def unreadable() -> None:
    raise Unjudged("none of 4 judgements could be read (no_box)", final=True)


def first(times: int) -> Callable[[], None]:
    """Fails so many calls with "not now", and none after that."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            not_now()

    return fail


async def called(service: FakeService, caller: "asyncio.Task[Any]") -> None:
    """Waits until a caller's request has reached the core."""
    async with asyncio.timeout(60):
        while not service.calls:
            assert not caller.done(), caller
            await asyncio.sleep(0.005)


class Live:
    """A real HTTP server on a port of loopback, which can be killed and started again on the same port."""

    def __init__(self, service: FakeService, *interfaces: Interface) -> None:
        self.app = FastAPI()

        @self.app.middleware("http")
        async def tenant(request: Request, call_next: Any) -> Any:
            request.state.tenant = request.headers.get("authorization", "Bearer someone").removeprefix("Bearer ")
            return await call_next(request)

        for interface in interfaces:
            self.app.include_router(interface(service))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start()

    def _start(self) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
        )
        begun = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(begun,), daemon=True)
        self._thread.start()
        assert begun.wait(30)

    def _serve(self, begun: threading.Event) -> None:
        async def serve() -> None:
            task = asyncio.create_task(self._server.serve(sockets=[self._listening]))
            while not self._server.started and not task.done():
                await asyncio.sleep(0.001)
            begun.set()
            await task

        asyncio.run(serve())

    @property
    def dead(self) -> bool:
        return not self._thread.is_alive()

    def kill(self) -> None:
        """Cut all connections and listen no more."""
        if self.dead:
            return
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(30)
        self._listening.close()

    def again(self) -> None:
        """Listen again, on the same port."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._start()


@contextlib.contextmanager
def live(service: FakeService, *interfaces: Interface) -> Iterator[Live]:
    server = Live(service, *interfaces)
    try:
        yield server
    finally:
        server.kill()
