"""What a check finds: figures, each beside what is expected of it. The standard library alone.

check ─▶ Figure ─▶ a JSON object a line ─▶ results of a part ─▶ the results of all
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["passed", "failed", "recorded", "not run"]
PartState = Literal["passed", "failed", "partly run", "not run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure, or why there is none."""

    name: str
    """What was measured, in words."""
    state: State
    """`recorded`: nothing is expected of it."""
    value: float | None = None
    """Measured; None where nothing was, or it is not finite."""
    unit: str = ""
    """Of the value and of what is expected."""
    least: float | None = None
    """Smallest value that passes."""
    most: float | None = None
    """Largest value that passes."""
    why: str = ""
    """Why it failed without a value, or was not run."""

    @property
    def expectation(self) -> str:
        """What is expected, in words."""
        bounds = ((">=", self.least), ("<=", self.most))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None) or "nothing"

    def record(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        named = {"name": self.name, "state": self.state, "value": self.value, "unit": self.unit, "why": self.why}
        return named | {"expected": self.expectation}


def figure(name: str, value: float, unit: str = "", *, least: float | None = None, most: float | None = None) -> Figure:
    """Returns what was measured, judged: it passes within its bounds, and never where it is not finite."""
    finite, value = math.isfinite(value), float(value)
    good = finite and (least is None or value >= least) and (most is None or value <= most)
    expected = least is not None or most is not None
    state: State = ("passed" if expected else "recorded") if good else "failed"
    shown, why = (value, "") if finite else (None, f"the value is {value}")
    return Figure(name=name, state=state, value=shown, unit=unit, least=least, most=most, why=why)


def not_run(name: str, why: str) -> Figure:
    """Returns that a check was not run, and why."""
    return Figure(name=name, state="not run", why=why)


def failed(name: str, why: str) -> Figure:
    """Returns that a check ended with an error."""
    return Figure(name=name, state="failed", why=why)


def state_of(figures: Sequence[Mapping[str, Any]]) -> PartState:
    """Returns the state of a part by the records of its figures: what was not run is never passed."""
    states = {record["state"] for record in figures}
    if "failed" in states:
        return "failed"
    if not states & {"passed", "recorded"}:
        return "not run"
    return "partly run" if "not run" in states else "passed"
