"""The thread that an open judge belongs to. Whatever is asked while it judges waits in a queue and is judged together next.

ask ─▶ queue ─▶ one thread: all that is there ─▶ opened judge ─▶ a future of the scores
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from grm.preferences import Question
from grm.scored import Scored

CLOSE_S = 60.0  # in which what is being judged may end when the judge is closed


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question, and how it is judged."""

    question: Question
    """Query and responses."""
    votes: int
    """Judgements to sample; 0: greedy ones."""
    meta: bool
    """Whether the meta-RM chooses which of them vote."""
    early_stop: bool = False
    """Whether votes that cannot change the best response are spared."""


class Opened(Protocol):
    """A judge whose engine runs, or whose server is reached."""

    def judge(self, asked: Sequence[Asked]) -> list[Scored]:
        """Returns the scores of each question, in order."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Opening(Protocol):
    """A judge that was checked and can be opened."""

    @property
    def start_s(self) -> float:
        """Time that it may take, in seconds."""
        ...

    def open(self) -> Opened:
        """Returns the judge, open. It is used and closed by the thread that calls this."""
        ...


class Worker:
    """One thread, which opens the judge, asks it, and closes it: engines and event loops belong to a thread."""

    def __init__(self, opening: Opening) -> None:
        """Opens the judge. Raises what that raises, and TimeoutError when it takes longer than it may."""
        self._queue: queue.SimpleQueue[tuple[list[Asked], Future[list[Scored]]] | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # nothing enters the queue once the judge is closed: nobody would answer it
        self._closed = False
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opening, ready), name="spct-judge", daemon=True)
        self._thread.start()
        try:
            ready.result(timeout=opening.start_s)
        except TimeoutError:
            if ready.done():  # it was opening that raised it
                raise
            self._end()  # once it is open after all, the thread closes it: nobody else can
            raise TimeoutError(f"the judge was not open after {opening.start_s:.0f} s (waits.start_s)") from None

    def ask(self, asked: list[Asked]) -> "Future[list[Scored]]":
        """Returns a future of the scores, in order. RuntimeError when the judge is closed."""
        future: Future[list[Scored]] = Future()
        with self._gate:
            if self._closed:
                raise RuntimeError("the judge is closed; open it again")
            self._queue.put((asked, future))
        return future

    def close(self) -> None:
        """Close the judge when what was asked is judged. TimeoutError when that takes longer than `CLOSE_S`."""
        self._end()
        self._thread.join(timeout=CLOSE_S)
        if self._thread.is_alive():
            raise TimeoutError(f"the judge was still judging {CLOSE_S:.0f} s after it was closed; it ends with the process")

    def _end(self) -> None:
        """Let the thread close the judge when what was asked is judged."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)

    def _run(self, opening: Opening, ready: "Future[None]") -> None:
        try:
            opened = opening.open()
        except BaseException as error:  # whatever it is, the constructor raises it
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while batch := self._next():
                self._judge(opened, batch)
        finally:
            opened.close()

    def _next(self) -> list[tuple[list[Asked], "Future[list[Scored]]"]]:
        """Returns all that is in the queue, waiting for the first; nothing once the judge is closed."""
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        while not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)  # for the next turn
                break
            batch.append(more)
        return batch

    def _judge(self, opened: Opened, batch: Sequence[tuple[list[Asked], "Future[list[Scored]]"]]) -> None:
        running = [(asked, future) for asked, future in batch if future.set_running_or_notify_cancel()]
        try:
            scored = iter(opened.judge([each for asked, _ in running for each in asked]))
            for asked, future in running:
                future.set_result([next(scored) for _ in asked])
        except BaseException as error:  # whoever asked gets it
            for _, future in running:
                if not future.done():
                    future.set_exception(error)
