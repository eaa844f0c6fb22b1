"""An engine in a process of its own, so that who asks it and the engine share no interpreter lock.

    caller ─▶ EngineProcess ═ pipe ═▶ calls, one after another ─▶ engine ─▶ futures
                    ▲                                                          │ by the thread that finished them
                    └───────────────────────── pipe ◀──────────────────────────┘

On two cores a judge that shared its process with its engine gave 0.62 of the votes of the engine alone (docs/performance.md).
The process ends with its parent, however that ends: the pipe is then closed, which it waits for from its first moment.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import Any

from actors.generator import Request, ServedEngine
from actors.vllm_engine import EngineDead
from buffer.messages import Completion

COMMAND = "from actors.engine_process import run_engine; run_engine({}, {})"
CLOSE_S = 30.0
logger = logging.getLogger(__name__)

Completions = tuple[Completion, ...]


@dataclass(frozen=True, slots=True)
class _Submit:
    """Start requests, which are known by these numbers."""

    numbers: tuple[int, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class _Abort:
    """End requests."""

    numbers: tuple[int, ...]


Call = Callable[[], ServedEngine] | _Submit | _Abort


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of a call or of a request: which one it is, by its number, and its value or error."""

    number: int
    value: Any
    error: Exception | None = None


class EngineProcess:
    """A `ServedEngine` in a process of its own. Thread-safe."""

    def __init__(self, build: Callable[[], ServedEngine], *, cores: Collection[int] = ()) -> None:
        """Starts the process and waits until its engine is there.

        Args:
            build: Returns the engine; called in the process, into which it is pickled.
            cores: To which the process is bound; none: to no other than this one is.

        Raises:
            EngineDead: The process ended meanwhile. What `build` raises is raised as it is.
        """
        self._futures: dict[int, Future[Any]] = {}
        self._last = 0
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._failure: EngineDead | None = None
        self._pipe, there = Pipe()
        path = os.pathsep.join(filter(None, sys.path))  # what this process imports from
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND.format(there.fileno(), list(cores))],
                pass_fds=(there.fileno(),),
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # it ends with this process, not with a signal to a group: requests are drained first
            )
        self._reader = threading.Thread(target=self._receive, name="engine-process", daemon=True)
        self._reader.start()
        try:
            self._call(build).result()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def submit(self, requests: Sequence[Request]) -> list[Future[Completions]]:
        """As of `ServedEngine`. Raises EngineDead when the process has ended."""
        futures: list[Future[Completions]] = [Future() for _ in requests]
        for future in futures:
            future.set_running_or_notify_cancel()  # who asked may end it by `abort` alone
        numbers = tuple(self._register(futures))
        try:
            self._call(_Submit(numbers, tuple(requests))).result()
        except BaseException:
            with self._lock:
                for number in numbers:
                    self._futures.pop(number, None)
            raise
        return futures

    def abort(self, futures: Sequence[Future[Completions]]) -> None:
        """As of `ServedEngine`."""
        wanted = set(futures)
        with self._lock:
            numbers = tuple(number for number, future in self._futures.items() if future in wanted)
        self._call(_Abort(numbers)).result()

    def close(self) -> None:
        """End the engine and its process; harmless when repeated. Requests that are still running fail with EngineDead."""
        with suppress(OSError):  # it has ended
            self._send(None)
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            logger.warning("the engine's process %d did not end within %.0f s, and is killed", self.pid, CLOSE_S)
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _register(self, futures: Sequence[Future[Any]]) -> range:
        """Returns the numbers under which results come for futures. EngineDead when none will come."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            numbers = range(self._last + 1, self._last + 1 + len(futures))
            self._last += len(futures)
            self._futures.update(zip(numbers, futures, strict=True))
        return numbers

    def _call(self, call: Call) -> Future[None]:
        """Returns the future of a call, which is sent with its number."""
        done: Future[None] = Future()
        (number,) = self._register([done])
        with suppress(OSError):  # the pipe is closed: the reader tells all that wait
            self._send((number, call))
        return done

    def _send(self, message: object) -> None:
        data = pickle.dumps(message)
        with self._writing:
            self._pipe.send_bytes(data)

    # ---- the reader ----------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Resolve futures until the process ends."""
        try:
            while True:
                self._resolve(self._pipe.recv())
        except (EOFError, OSError):
            self._end()

    def _resolve(self, result: _Result) -> None:
        with self._lock:
            future = self._futures.pop(result.number, None)
        if future is None:
            return  # of a submission that failed
        if result.error is None:
            future.set_result(result.value)
        else:
            future.set_exception(result.error)

    def _end(self) -> None:
        try:
            status = f"with status {self._process.wait(CLOSE_S)}"
        except subprocess.TimeoutExpired:
            status = "its pipe, and not itself"
        with self._lock:
            self._failure = EngineDead(f"the engine's process {self.pid} ended {status}")
            futures, self._futures = list(self._futures.values()), {}
        self._pipe.close()
        for future in futures:
            future.set_exception(self._failure)


# ---- in the process ----------------------------------------------------------------------------------------------


def run_engine(number: int, cores: Collection[int]) -> None:
    """Build the engine and let it answer, until the pipe is closed.

    Args:
        number: File descriptor of the pipe's end.
        cores: To which this process is bound; none: to no others than its parent is.
    """
    if cores:
        os.sched_setaffinity(0, cores)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this process
    _Served(Connection(number)).run()
    os._exit(0)  # whatever threads the engine has left


class _Served:
    """The engine's side of the pipe. Its threads have little to do: one that takes the interpreter's lock from the engine's own
    thread may have to wait for a core with it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._writing = pipe, threading.Lock()
        self._running: dict[int, Future[Completions]] = {}
        self._engine: ServedEngine | None = None

    def run(self) -> None:
        # Beside this thread, which waits for the parent's end even while the engine is built, or hangs.
        calls = ThreadPoolExecutor(1, thread_name_prefix="calls")
        try:
            while (message := self._pipe.recv()) is not None:
                calls.submit(self._answer, *message)
        except (EOFError, OSError):  # the parent is gone
            pass
        if self._engine is not None:
            self._engine.close()

    def _answer(self, number: int, call: Call) -> None:
        try:
            if isinstance(call, _Submit):
                self._submit(call)
            elif isinstance(call, _Abort):
                self._built.abort([future for each in call.numbers if (future := self._running.get(each)) is not None])
            else:
                self._engine = call()
        except BaseException as error:  # handed to the caller, which waits for it
            self._send(_Result(number, None, _portable(error)))
        else:
            self._send(_Result(number, None))

    @property
    def _built(self) -> ServedEngine:
        assert self._engine is not None, "the parent waits for the engine before it calls it"
        return self._engine

    def _submit(self, call: _Submit) -> None:
        futures = self._built.submit(call.requests)
        self._running.update(zip(call.numbers, futures, strict=True))
        for number, future in zip(call.numbers, futures, strict=True):
            future.add_done_callback(partial(self._finished, number))

    def _finished(self, number: int, future: Future[Completions]) -> None:
        self._running.pop(number, None)
        error = future.exception()
        if error is None:
            self._send(_Result(number, future.result()))
        else:
            self._send(_Result(number, None, _portable(error)))

    def _send(self, result: _Result) -> None:
        data = pickle.dumps(result)
        with self._writing, suppress(OSError):  # the parent is gone, which the other thread sees
            self._pipe.send_bytes(data)


def _portable(error: BaseException) -> Exception:
    """Returns an error that the parent can be sent: itself, or its text where it cannot be pickled."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # of any kind: it is other people's class
        return EngineDead(f"{type(error).__name__}: {error}")
    return again if isinstance(again, Exception) else EngineDead(repr(error))
