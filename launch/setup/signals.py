"""How a run is asked to end."""

from __future__ import annotations

import signal
from types import FrameType


def end_on_signals() -> None:
    """`ray job stop` sends SIGTERM, Ctrl-C SIGINT (which a shell lets its background jobs ignore): both end the run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
