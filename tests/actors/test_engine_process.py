"""An engine in a process of its own: what comes back, and what whoever waits gets when either process ends.

The engine is a fake; a real one behind it: tests/launch/serving/test_whole_server.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from actors.engine_process import EngineProcess
from actors.generator import Request
from actors.vllm_engine import Aborted, EngineDead
from buffer.messages import Completion
from tests.fakes import FakeEngine
from tests.launch.whole_run import ROOT

LIMIT_S = 60.0
CORES = sorted(os.sched_getaffinity(0))
ENDLESS = 10**6  # tokens of a request that the fake never completes


class OddError(Exception):
    """It can be pickled, and not read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class HeldEngine(FakeEngine):
    """Completes what it is asked at once, but for requests of ENDLESS tokens, and refuses empty prompts."""

    def __init__(self) -> None:
        super().__init__(lambda request, sample: f"{request.token_ids[0]}/{sample} of {os.getpid()}")
        self._held: dict[Future[tuple[Completion, ...]], Request] = {}

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        if any(not request.token_ids for request in requests):
            raise ValueError("an empty prompt")
        return [self._begun(request) for request in requests]

    def abort(self, futures: Sequence[Future[tuple[Completion, ...]]]) -> None:
        for future in futures:
            if self._held.pop(future, None) is not None:
                future.set_exception(Aborted("nobody waited for it any more"))

    def _begun(self, request: Request) -> Future[tuple[Completion, ...]]:
        if request.max_new_tokens < ENDLESS:
            return super().submit([request])[0]
        future: Future[tuple[Completion, ...]] = Future()
        self._held[future] = request
        return future


def failing(error: str) -> HeldEngine:
    if error == "odd":
        raise OddError(1, 2)
    raise ValueError(error)


def dying() -> HeldEngine:
    os._exit(3)


def leaving() -> HeldEngine:
    sys.exit()


def slow(file: str) -> HeldEngine:
    """Writes the number of its process into a file, and is built for ever."""
    Path(file).write_text(f"{os.getpid()}\n")
    time.sleep(2 * LIMIT_S)
    return HeldEngine()


class HangingEngine(HeldEngine):
    """Writes the number of its process into a file when it is asked, and then never answers a request."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = Path(file)

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        self._file.write_text(f"{os.getpid()}\n")
        if requests:
            time.sleep(2 * LIMIT_S)
        return []


def request(number: int, *, tokens: int = 8, samples: int = 1) -> Request:
    return Request(token_ids=(number,), samples=samples, temperature=1.0, max_new_tokens=tokens)


def gone(pid: int) -> None:
    """Waits until a process has ended."""
    deadline = time.monotonic() + LIMIT_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shared() -> Iterator[EngineProcess]:
    engine = EngineProcess(HeldEngine)
    yield engine
    engine.close()
    gone(engine.pid)


def test_requests_of_many_callers_are_answered_each_its_own_by_another_process(shared: EngineProcess) -> None:
    def ask(number: int) -> list[str]:
        return [each.text for future in shared.submit([request(number, samples=2)]) for each in future.result(LIMIT_S)]

    with ThreadPoolExecutor(16) as callers:
        told = list(callers.map(ask, range(200)))
    assert shared.pid != os.getpid()
    assert told == [[f"{number}/{sample} of {shared.pid}" for sample in range(2)] for number in range(200)]


def test_who_ends_a_request_ends_that_one_alone(shared: EngineProcess) -> None:
    one, two = shared.submit([request(1, tokens=ENDLESS), request(2, tokens=ENDLESS)])
    assert not one.cancel()
    shared.abort([one])
    with pytest.raises(Aborted, match="nobody waited"):
        one.result(LIMIT_S)
    assert not two.done()
    shared.abort([one, two])
    assert isinstance(two.exception(LIMIT_S), Aborted)


def test_a_refused_submission_is_an_error_of_the_caller_and_of_nobody_else(shared: EngineProcess) -> None:
    (held,) = shared.submit([request(1, tokens=ENDLESS)])
    bad = Request(token_ids=(), samples=1, temperature=1.0, max_new_tokens=1)
    with pytest.raises(ValueError, match="an empty prompt"):
        shared.submit([request(2), bad])
    assert shared.submit([request(3)])[0].result(LIMIT_S)[0].text.startswith("3/0")
    assert not held.done()
    shared.abort([held])


@pytest.mark.skipif(len(CORES) < 2, reason="one core")
def test_it_is_bound_to_its_cores_with_all_of_its_threads() -> None:
    engine = EngineProcess(HeldEngine, cores=CORES[-1:])
    threads = psutil.Process(engine.pid).threads()
    assert {tuple(os.sched_getaffinity(thread.id)) for thread in threads} == {(CORES[-1],)}
    assert sorted(os.sched_getaffinity(0)) == CORES
    engine.close()


def test_ctrl_c_is_for_the_parent(shared: EngineProcess) -> None:
    os.kill(shared.pid, signal.SIGINT)
    assert shared.submit([request(4)])[0].result(LIMIT_S)


@pytest.mark.parametrize(
    ("build", "kind", "told"),
    [
        (partial(failing, "no such model"), ValueError, "^no such model$"),
        (partial(failing, "odd"), EngineDead, "OddError: 1 and 2"),
        (dying, EngineDead, "ended with status 3"),
        (leaving, EngineDead, "SystemExit"),
    ],
)
def test_why_there_is_no_engine_is_told(build: Callable[[], HeldEngine], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        EngineProcess(build)


def test_a_process_that_is_killed_fails_what_runs_and_what_comes_later() -> None:
    engine = EngineProcess(HeldEngine)
    (held,) = engine.submit([request(1, tokens=ENDLESS)])
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineDead, match=f"the engine's process {engine.pid} ended with status -9"):
        held.result(LIMIT_S)
    for call in (lambda: engine.submit([]), lambda: engine.abort([held])):
        with pytest.raises(EngineDead, match="ended with status -9"):
            call()
    engine.close()
    engine.close()


def test_closing_fails_what_still_runs_and_ends_the_process() -> None:
    engine = EngineProcess(HeldEngine)
    (held,) = engine.submit([request(1, tokens=ENDLESS)])
    engine.close()
    with pytest.raises(EngineDead, match="ended with status 0"):
        held.result(LIMIT_S)
    gone(engine.pid)


ORPHANING = """
import sys, threading, time
from functools import partial
from actors.engine_process import EngineProcess
from tests.actors import test_engine_process as these
kind, file = sys.argv[1:]
engine = EngineProcess(partial(these.slow, file) if kind == "while it is built" else partial(these.HangingEngine, file))
asked = [these.request(1)] if kind == "while it hangs" else []
threading.Thread(target=engine.submit, args=(asked,), daemon=True).start()
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["while it is built", "while it hangs", "while it waits"])
def test_it_ends_with_a_parent_that_is_killed(kind: str, tmp_path: Path) -> None:
    file, deadline = tmp_path / "pid", time.monotonic() + LIMIT_S
    command, environ = [sys.executable, "-c", ORPHANING, kind, str(file)], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environ) as parent:
        while not (file.exists() and (text := file.read_text()).endswith("\n")):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.02)
        parent.kill()
    gone(int(text))
