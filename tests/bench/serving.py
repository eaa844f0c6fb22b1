"""A whole reward server against its engine alone, on the same prompts.

    python -m tests.bench.serving [--quick]
    python -m tests.bench.serving --seconds 300     five minutes of load

`launch/serve.py --model tiny` with Ray Serve, two HTTP workers and one judge, k = 8, asked over HTTP by CALLERS callers of this
process; and, in turn, an engine of the same settings in a process of its own, which gets the requests of the same votes at
once, as an evaluation does. A round is up to VERDICTS held-out preferences that neither has seen, as many as the slower of both
answers in ROUND_S by the warm-up: a busy machine makes the rounds smaller, not longer. Both stay in memory; the callers share
the cores with the server. A round that is not over after LIMIT_S fails, and says what was answered until then.

- rate: votes/s from the first request to the last answer.
- p50, p99: seconds from a request to its answer, while CALLERS callers wait.
- memory: private memory (USS) of all processes of the server, at the end against a third of the way, by a line through what is
  seen while it is asked; the note has the process that grows fastest. Verdicts are kept for KEEP_S here, so that the store has
  as many at the end.
- overload: votes/s while FLOOD times as many callers ask, more than the server takes at a time, against the median above. It
  answers them 429, and they ask again after half a second to a whole one, twice as long each time, up to MOST_PAUSE_S.

A judgement that cannot be read is a vote like any other; where none of eight can be, the answer is 503 `final`. Any status
beside these is an error of the bench.
"""

import asyncio
import itertools
import math
import random
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import linear_regression

import httpx
import psutil

from grm import tiny_world
from grm.preferences import Question
from tests.bench.side_by_side import Contender, Measured, main, turns
from tests.launch.serving.server_processes import Server, set_options
from tests.launch.whole_run import LENGTHS

CALLERS, K, FLOOD = 64, 8, 8
# Of a round, at most; how long it is to take: the second in which callers have nothing more to ask is little of it.
VERDICTS, ROUND_S = 1024, 20.0
WARM_UP = 2 * CALLERS  # verdicts, and the fewest of a round
SECONDS = 40.0  # of load
LIMIT_S = 120.0  # of a round
KEEP_S, LOOK_S = 15, 1.0
PAUSE_S, MOST_PAUSE_S = 1.0, 4.0
PATIENCE_S = 150.0  # of a caller, above the server's deadline
SETTINGS = (*LENGTHS, "rollout.kv_cache_mb=128")
Series = dict[str, list[tuple[float, float]]]  # {process: (seconds, MiB)}


def questions(seed: int, count: int) -> list[Question]:
    """Return held-out questions of two responses each; those of each seed are others."""
    return [preference.question for preference in tiny_world.preferences(seed, count, 2, held_out=True)]


@dataclass
class Load:
    """What callers see."""

    latencies: list[float] = field(default_factory=list)
    """Seconds of each request that was answered."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Of all answers."""
    seconds: float = 0.0
    """From the first request to the last answer."""

    @property
    def rate(self) -> float:
        """Votes a second."""
        return K * len(self.latencies) / self.seconds


async def ask(url: str, asked: Sequence[Question], callers: int, *, limit_s: float = LIMIT_S) -> Load:
    """Let so many callers ask for verdicts on questions. RuntimeError for a status that none of them should see, TimeoutError
    when they are not answered in `limit_s` seconds."""
    load, left = Load(), iter(asked)

    async def caller(client: httpx.AsyncClient) -> None:
        for question in left:
            body = {"query": question.query, "responses": list(question.responses), "id": question.id, "k": K}
            pause = PAUSE_S
            while True:
                began = time.perf_counter()
                try:
                    answer = await client.post("/v1/judge", json=body)
                except httpx.TransportError as error:
                    raise RuntimeError(f"{url} did not answer on {question.id} ({type(error).__name__})") from error
                load.statuses[answer.status_code] += 1
                if answer.status_code != 429:
                    break
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, MOST_PAUSE_S)
            if answer.status_code != 200 and not (answer.status_code == 503 and answer.json()["error"].get("final")):
                raise RuntimeError(f"the server answered {answer.status_code}: {answer.text}")
            load.latencies.append(time.perf_counter() - began)

    limits = httpx.Limits(max_connections=callers)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as client:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(caller(client))
        except TimeoutError:
            told = f"{len(load.latencies)} of {len(asked)} verdicts; answers by status: {dict(load.statuses)}"
            raise TimeoutError(f"{callers} callers waited {limit_s:g} s for the server at {url}: {told}") from None
        load.seconds = time.perf_counter() - began
    return load


def build_engine(seeds: Iterator[int]) -> Callable[[int], float]:
    """Build an engine as the server does; each call lets it answer the votes on so many questions of the next seed."""
    from actors.vllm_engine import VllmEngine
    from launch.judging.engine_requests import engine_request
    from launch.judging.prepared_judge import prepare
    from launch.setup.engine_settings import engine_settings

    made = prepare("tiny", model="", meta_rm="", engine="vllm", device="cpu", seed=0, overrides=SETTINGS)
    tokenizer, plan = made.tokenizer, replace(made.plan, k=K)
    assert tokenizer is not None
    engine = VllmEngine(engine_settings(made.config, model=made.found.model, number=1, tokenizer=tokenizer))

    def run(count: int) -> float:
        votes = [each for question in questions(next(seeds), count) for each in plan.votes(question)]
        requests = [engine_request(each.request, tokenizer.encode(each.request.message)) for each in votes]
        began = time.perf_counter()
        futures = engine.submit(requests)
        late = wait(futures, timeout=LIMIT_S).not_done
        if late:
            left = f"{len(late)} of {len(futures)} requests are left"
            raise TimeoutError(f"the bench waited {LIMIT_S:g} s for the engine alone: {left}")
        return sum(len(future.result()) for future in futures) / (time.perf_counter() - began)

    return run


def note(series: Series, server: Server, began: float) -> None:
    """Add the private memory of each process of a server, in MiB."""
    root = psutil.Process(server.process.pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended
            name = (process.cmdline() or [process.name()])[0].rpartition("/")[2]
            memory = process.memory_full_info().uss / 2**20
            series[f"{name} {process.pid}"].append((time.monotonic() - began, memory))


@contextmanager
def watched(server: Server, *, look_s: float) -> Iterator[Series]:
    """Note the memory of a server's processes again and again while the block lasts."""
    series: Series = defaultdict(list)
    began, ended = time.monotonic(), threading.Event()

    def watch() -> None:
        while not ended.wait(look_s):
            note(series, server, began)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield series
    finally:
        ended.set()
        thread.join()


def growth(series: Series) -> tuple[float, float, str]:
    """Return the memory of all processes a third of the way and at the end, by the line through each, and in words the one
    that grows fastest. A process that was there for less than half of the time is left out.

    >>> growth({"judge 7": [(0, 90), (20, 100), (40, 101), (60, 102)], "http 8": [(0, 10), (20, 10), (40, 10), (60, 10)]})
    (110.0, 112.0, 'judge 7 +3.0 MiB/min')
    """
    last = max(at for points in series.values() for at, _ in points)
    first, total, end, fastest = last / 3, 0.0, 0.0, (-math.inf, "")
    for name, points in series.items():
        late = [point for point in points if point[0] >= first]
        if len(late) < 2 or late[-1][0] - late[0][0] < last / 2:
            continue
        slope, start = linear_regression(*zip(*late, strict=True))
        total, end = total + start + slope * first, end + start + slope * last
        fastest = max(fastest, (60 * slope, name))
    return total, end, f"{fastest[1]} {fastest[0]:+.1f} MiB/min"


def measure(quick: bool, seconds: float) -> list[Measured]:
    callers = 4 if quick else CALLERS
    most = callers + callers // 2  # requests of one HTTP worker: callers alone are never refused
    options = ["--k", str(K), "--most-requests", str(most), "--keep-s", str(KEEP_S)]
    options += set_options(SETTINGS)
    seeds, loads = itertools.count(1000), list[Load]()

    def serve(url: str, count: int) -> float:
        loads.append(asyncio.run(ask(url, questions(next(seeds), count), callers)))
        return loads[-1].rate

    with (
        tempfile.TemporaryDirectory(prefix="spct-bench-") as folder,
        Server(Path(folder) / "server", *options) as server,
        Contender("the engine", partial(build_engine, itertools.count(1000))) as engine,
    ):
        first = 8 if quick else WARM_UP
        slower = min(serve(server.url, first), engine(first))
        count = first if quick else max(WARM_UP, min(VERDICTS, round(slower * ROUND_S / K)))
        sides: dict[str, Callable[[], float]] = {"server": partial(serve, server.url, count), "engine": partial(engine, count)}
        with watched(server, look_s=0.2 if quick else LOOK_S) as series:
            rates = turns(2 if quick else max(3, round(seconds / ROUND_S)), sides, warm_up=0)
        flood = asyncio.run(ask(server.url, questions(next(seeds), 2 * count), FLOOD * callers, limit_s=2 * LIMIT_S))
    loads = loads[1:]  # without the warm-up
    begin, end, fastest = growth(series)
    p50, p99 = ([statistics.quantiles(load.latencies, n=100)[at - 1] for load in loads] for at in (50, 99))
    median = statistics.median(rates["server"])
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(flood.statuses.items()))
    return [
        Measured(figure="serving rate", unit="votes/s", ours=tuple(rates["server"]), against=tuple(rates["engine"])),
        Measured(figure="serving p50", unit="s", ours=tuple(p50), note=f"{callers} callers, rounds of {count} verdicts"),
        Measured(figure="serving p99", unit="s", ours=tuple(p99)),
        Measured(figure="serving memory", unit="MiB", ours=(end,), against=(begin,), note=fastest),
        Measured(figure="serving overload", unit="votes/s", ours=(flood.rate,), against=(median,), note=statuses),
    ]


if __name__ == "__main__":
    main(measure, __doc__, seconds=SECONDS)
