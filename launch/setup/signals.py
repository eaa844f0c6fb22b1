"""How a run is ended from outside.

SIGINT, SIGTERM ─┬─ by default           ─▶ KeyboardInterrupt at once
                 ├─ in `StopRequest`     ─▶ asked: the run saves first; the next one ─▶ KeyboardInterrupt
                 └─ in `held_off`        ─▶ said and ignored: what is being written ends in a moment
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, which background jobs of a shell ignore; `ray job stop`, Slurm, Kubernetes
HELD_OFF = 3  # signals that are ignored while the end is written; the next one ends it


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT end the run at once."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    _handle(interrupt)


class StopRequest:
    """A signal that the run answers when it is ready to: between two turns of its loop."""

    def __init__(self) -> None:
        self.asked = False
        """Whether a signal came while it was `awaited`."""

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note the first signal in the block; the next one ends the run at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        with _handled(note):
            yield


@contextmanager
def held_off(say: Callable[[], None]) -> Iterator[None]:
    """Ignore signals in the block, which must not take long; of many the last one ends it.

    Args:
        say: Called at each one that is ignored.
    """
    left = HELD_OFF

    def ignore(number: int, frame: FrameType | None) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        say()

    with _handled(ignore):
        yield


Handler = Callable[[int, FrameType | None], None]


def _handle(handler: Handler) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread alone
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _handle(handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)
