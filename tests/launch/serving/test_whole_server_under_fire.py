"""500 cohorts from 64 callers over a whole server, of which all kinds of processes are killed at seeded moments.

callers ─▶ proxy ─▶ HTTP worker ×3 ─▶ judge ×2 ─▶ Redis      all of them are killed by SIGKILL, under load
   │ ask again, hang up, ask twice       ╚ pipe ═▶ its engine: a fake (fast_server.py), which writes a bill
   └─▶ answers: which votes they are of  └─▶ votes that were paid for, votes that the store has taken

A vote that an engine gave and that its judge had not yet written down when one of the two was killed is lost with it, and is
the only one that is ever paid for again. SPCT_FIRES=6 kills at the moments of six seeds.
"""

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from launch.serving import metrics
from spct.reward_client import NO_APP
from tests.launch.serving.fast_server import BILL, KEPT
from tests.launch.serving.server_processes import ENGINE, HTTP_WORKER, JUDGE, PROXY, STORE, Server, kill, set_options
from tests.launch.serving.small_server import BAD, FAIR, GOOD, WORTH
from tests.launch.whole_run import LENGTHS, kill_mentioning

COHORTS, CALLERS, K = 500, 64, 4
SEEDS = int(os.environ.get("SPCT_FIRES", "1"))
TEXTS = (GOOD, FAIR, BAD)
DEADLINE_S = 120.0
PATIENCE_S = DEADLINE_S + 20.0  # of a caller: whoever waits for longer waits for ever
LIMIT_S = 400.0
DEATHS = {JUDGE: 3, ENGINE: 2, HTTP_WORKER: 4, STORE: 2, PROXY: 2}
VOTE = re.compile(r"vote (\d+\.\d+)")


@dataclass(frozen=True)
class Call:
    """A request of one caller."""

    cohort: int
    """Its cohort."""
    path: str
    """Route."""
    body: Mapping[str, Any]
    """What is sent."""
    texts: tuple[str, ...]
    """Its responses."""


def calls_of(cohort: int, rng: random.Random) -> list[Call]:
    """The requests of a cohort: with places, without places, without a key, or one for all of it."""
    query = f"query {cohort}"
    texts = list(TEXTS)
    rng.shuffle(texts)
    if cohort % 4 == 3:
        return [Call(cohort, "/v1/judge", {"query": query, "responses": texts}, tuple(texts))]
    calls = []
    for slot, text in enumerate(texts):
        named: dict[str, Any] = ({"group": f"group {cohort}", "slot": slot}, {"group": f"group {cohort}"}, {})[cohort % 4]
        body = {"query": query, "response": text, "size": len(texts), **named}
        calls.append(Call(cohort, "/v1/member", body, (text,)))
    return calls


@dataclass
class Fire:
    """The callers, and what kills the server's processes."""

    server: Server
    rng: random.Random
    found: dict[int, set[tuple[str, ...]]] = field(default_factory=dict)
    """The votes of each verdict that members of a cohort got."""
    statuses: Counter[int] = field(default_factory=Counter)
    answers: int = 0
    cut: int = 0
    """Connections that broke."""
    dead: dict[str, list[int]] = field(default_factory=lambda: {title: [] for title in DEATHS})
    losing: set[int] = field(default_factory=set)
    """Processes that were killed, and judges whose engine was."""
    longest_s: float = 0.0

    async def ask(self, client: httpx.AsyncClient, call: Call) -> None:
        """Asks until there is an answer. Some callers lose their patience, and ask again."""
        began = asyncio.get_running_loop().time()
        patience = self.rng.choice([0.3, *[PATIENCE_S] * 15])
        while True:
            try:
                answer = await asyncio.wait_for(client.post(call.path, json=call.body), patience)
            except (TimeoutError, httpx.TimeoutException):
                assert patience < PATIENCE_S, f"a caller waits for ever: {call}"
                patience = PATIENCE_S
                await asyncio.sleep(0.2)
                continue
            except httpx.TransportError:
                self.cut += 1
                await asyncio.sleep(0.2)
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                break
            beginning = answer.status_code == 404 and answer.content.endswith(NO_APP)  # a proxy that has just begun
            # 500: Ray Serve's own, where the process of a request died
            assert beginning or answer.status_code in (500, 503), answer.text
            await asyncio.sleep(0.2)
        self.longest_s = max(self.longest_s, asyncio.get_running_loop().time() - began)
        self.note(call, answer.json())

    def note(self, call: Call, answer: Mapping[str, Any]) -> None:
        """Looks at an answer by itself, and writes down which votes it is of."""
        votes = answer["votes"]
        assert (votes["asked"], votes["cast"], votes["cut"]) == (K, K, 0), answer
        assert len(answer["responses"]) == len(TEXTS), f"a member is missing: {call}"
        scores = [answer["score"]] if len(call.texts) == 1 else [each["score"] for each in answer["responses"]]
        assert scores == [WORTH[text] for text in call.texts]
        named = tuple(match[1] for each in answer["judgements"] if (match := VOTE.search(each["critique"])))
        assert len(set(named)) == K
        self.found.setdefault(call.cohort, set()).add(named)
        self.answers += 1

    async def kill_all(self, answers: int) -> None:
        """Kills, spread over the answers that are to come."""
        blows = [title for title, count in DEATHS.items() for _ in range(count)]
        self.rng.shuffle(blows)
        moments = sorted(self.rng.uniform(0.05, 0.9) * answers for _ in blows)
        for title, moment in zip(blows, moments, strict=True):
            while self.answers < moment:
                await asyncio.sleep(0.02)
            while not (living := sorted(set(self.server.processes(title)) - set(self.dead[title]))):
                await asyncio.sleep(0.2)  # until it was replaced
            pid = self.rng.choice(living)
            self.losing.add(psutil.Process(pid).ppid() if title == ENGINE else pid)
            kill(pid)
            self.dead[title].append(pid)


async def burn(fire: Fire) -> None:
    """Lets CALLERS callers ask for all cohorts. Each of a wave's members is asked for before those of the next one."""
    calls: list[Call] = []
    wave = CALLERS // len(TEXTS)
    for first in range(0, COHORTS, wave):
        members = [call for cohort in range(first, min(first + wave, COHORTS)) for call in calls_of(cohort, fire.rng)]
        fire.rng.shuffle(members)
        calls += members
    left = iter(calls)
    limits = httpx.Limits(max_connections=2 * CALLERS)
    async with httpx.AsyncClient(base_url=fire.server.url, timeout=2 * PATIENCE_S, limits=limits) as client:

        async def caller() -> None:
            for call in left:
                await fire.ask(client, call)
                if fire.rng.random() < 0.1:  # a retry of one that had its answer
                    await fire.ask(client, call)

        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            group.create_task(fire.kill_all(len(calls)))
            for _ in range(CALLERS):
                group.create_task(caller())
        for call in fire.rng.sample(calls, 50):
            await fire.ask(client, call)


def started(folder: Path, *, judges: int, http_workers: int) -> Server:
    """A server with fast judges."""
    counts = ["--k", str(K), "--judges", str(judges), "--http-workers", str(http_workers)]
    times = ["--deadline-s", str(DEADLINE_S), "--collect-s", str(DEADLINE_S - 10)]
    return Server(folder, *counts, *times, *set_options(LENGTHS), entry=Path(__file__).with_name("fast_server.py"))


def billed(folder: Path) -> list[list[str]]:
    """[vote, what it was asked] of each vote that was paid for."""
    return [line.split() for line in (folder / "state" / BILL).read_text().splitlines()]


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_is_killed_a_cohort_has_one_verdict_and_no_vote_that_was_kept_is_paid_again(tmp_path: Path, seed: int) -> None:
    with started(tmp_path / "server", judges=2, http_workers=3) as server:
        fire = Fire(server, random.Random(seed))
        asyncio.run(burn(fire))
        bill, kept = billed(server.folder), (server.folder / "state" / KEPT).read_text().split()
    assert {title: len(pids) for title, pids in fire.dead.items()} == DEATHS
    assert sorted(fire.found) == list(range(COHORTS)), "none is lost"
    assert {cohort: len(votes) for cohort, votes in fire.found.items() if len(votes) > 1} == {}, "one verdict for all members"
    used = [vote for verdicts in fire.found.values() for votes in verdicts for vote in votes]
    asked = dict(bill)
    assert len({asked[vote] for vote in used}) == len(used) == COHORTS * K, "each place of a vote has one"
    assert set(kept) <= set(used), "what the store has taken counts: it is never asked for again"
    wasted = Counter(vote.partition(".")[0] for vote in asked.keys() - set(used))
    print(
        f"{fire.answers} answers {dict(fire.statuses)}, {fire.cut} cut, longest {fire.longest_s:.0f} s, wasted {dict(wasted)}"
    )
    assert wasted.keys() <= set(map(str, fire.losing)), "a judge that lives, and whose engine lives, gives no vote in vain"
    assert wasted.total() <= COHORTS * K // 20


@pytest.mark.chaos
def test_a_server_whose_processes_were_all_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Of each kind of cohort one that was judged, and one of which a member was waiting."""
    folder, rng = tmp_path / "server", random.Random(0)
    judged, begun = ([calls_of(cohort, rng) for cohort in cohorts] for cohorts in (range(4), range(4, 7)))

    async def ask(fire: Fire, calls: list[Call]) -> None:
        async with httpx.AsyncClient(base_url=fire.server.url, timeout=2 * PATIENCE_S) as client:
            await asyncio.gather(*(fire.ask(client, call) for call in calls))

    async def ask_in_vain(server: Server) -> list[Any]:
        async with httpx.AsyncClient(base_url=server.url, timeout=2 * PATIENCE_S) as client:
            asked = [asyncio.create_task(client.post(calls[0].path, json=calls[0].body)) for calls in begun]
            while f"{metrics.OPEN_COHORTS} {len(begun)}.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.1)
            kill_mentioning(str(folder))
            return await asyncio.gather(*asked, return_exceptions=True)

    with started(folder, judges=1, http_workers=1) as server:
        fire = Fire(server, rng)
        asyncio.run(ask(fire, [call for calls in judged for call in calls]))
        lost = asyncio.run(ask_in_vain(server))
        assert all(isinstance(each, httpx.TransportError) for each in lost), lost
    with started(folder, judges=1, http_workers=1) as fire.server:
        asyncio.run(ask(fire, [call for calls in (*judged, *begun) for call in calls]))
    assert {cohort: len(votes) for cohort, votes in fire.found.items()} == dict.fromkeys(range(7), 1)
    bill = billed(folder)
    assert len({asked for _, asked in bill}) == len(bill) == 7 * K, "no vote is paid for twice"
