"""How a run is ended from outside."""

import signal
from types import FrameType


def end_on_signals() -> None:
    """Let SIGTERM (`ray job stop`) and SIGINT (Ctrl-C, which background jobs of a shell ignore) end the run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
