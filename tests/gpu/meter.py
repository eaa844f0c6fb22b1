"""Seconds and memory on the device that computes. On a CPU there is a clock, and no memory is counted. It needs torch alone."""

import time
from collections.abc import Callable

import torch

from tests.gpu.figures import Figure, figure, not_run


def synced() -> None:
    """Wait until the card has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Run something to its end on the device, and return what it took."""
    synced()
    started = time.perf_counter()
    work()
    synced()
    return time.perf_counter() - started


class PeakMemory:
    """What is allocated on a card beyond what is there when this is made, at most."""

    def __init__(self, device: str) -> None:
        self._counts = device == "cuda"
        if self._counts:
            synced()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def added(self) -> float | None:
        """Bytes added at most since then; None on a CPU."""
        return float(torch.cuda.max_memory_allocated() - self._before) if self._counts else None

    def whole(self) -> float | None:
        """Bytes allocated at most since then, with what was there before; None on a CPU."""
        return float(torch.cuda.max_memory_allocated()) if self._counts else None


def of_a_card(
    name: str, value: float | None, unit: str = "", *, least: float | None = None, most: float | None = None
) -> Figure:
    """Returns a figure of what a card alone counts: on a CPU, where its value is None, it is not run."""
    return not_run(name, "only a card counts it") if value is None else figure(name, value, unit, least=least, most=most)
