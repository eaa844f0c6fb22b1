"""The steps of an engine, noted as they are taken: what its running requests see of new weights."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from actors.vllm_engine import VllmEngine


class EngineStep(NamedTuple):
    """A step of the engine, by the monotonic clock of the machine."""

    began: float
    ended: float
    version: int


class NotingEngine(VllmEngine):
    """Notes its steps."""

    def _build(self) -> None:
        self.noted: list[EngineStep] = []
        super()._build()

    def _step(self) -> None:
        began = time.monotonic()
        super()._step()
        self.noted.append(EngineStep(began, time.monotonic(), self.edition.version))


def pause_and_first(noted: Sequence[EngineStep], version: int, stepped_at: float) -> tuple[float, float]:
    """Return the pause before the first engine step under `version`, and the time from the optimiser step to its end.

    >>> steps = [EngineStep(1.0, 1.5, 3), EngineStep(1.5, 2.0, 3), EngineStep(2.25, 3.0, 4), EngineStep(3.0, 3.5, 4)]
    >>> pause_and_first(steps, 4, 1.0)
    (0.25, 2.0)
    """
    first = next((i for i, step in enumerate(noted) if step.version >= version), 0)
    if not first:
        raise RuntimeError(
            f"of {len(noted)} engine steps none came before, or none under, version {version}: decode for longer"
        )
    return noted[first].began - noted[first - 1].ended, noted[first].ended - stepped_at
