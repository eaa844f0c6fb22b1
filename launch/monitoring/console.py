"""The one progress display of a run: a live panel on a terminal, plain lines anywhere else (a log, `ray job logs`, CI).

    with ProgressDisplay(total_steps=120, bound=4) as progress:
        progress.update(step=1, reward=-0.21, staleness_max=0, tokens_per_s=2310, queues={"prompts": 3})
        progress.note("evaluated: accuracy 61.2 % → 74.8 %")

A figure stays until it is given again. Plain output is one line a step at most and holds no control code, whatever a message
brings along.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TextIO

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launch.monitoring.plain_text import clean

BLOCKS = "▁▂▃▄▅▆▇█"
WINDOW = 20  # steps that the time to go is estimated from


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFigures:
    """What is shown; None (no queues) where nothing is known yet. Rates 0..1, staleness in versions."""

    step: int | None = None
    reward: float | None = None
    accuracy: float | None = None
    parse_failure_rate: float | None = None
    staleness_max: float | None = None
    tokens_per_s: float | None = None
    workers: int | None = None
    queues: Mapping[str, int] = field(default_factory=dict)


class ProgressDisplay:
    """Display of `total_steps` optimiser steps under the staleness bound. Not thread safe: one caller, the driver."""

    def __init__(
        self,
        total_steps: int,
        bound: int,
        stream: TextIO | None = None,
        *,
        title: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._bound, self._title, self._clock = total_steps, bound, title, clock
        self._stream = stream if stream is not None else sys.stdout
        self._figures = StepFigures()
        self._rewards: deque[float] = deque(maxlen=32)
        self._pace: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self._began = clock()
        self._live: Live | None = None
        if self._stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
            console = Console(file=self._stream, force_terminal=True)
            self._live = Live(console=console, get_renderable=self._panel, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, **figures: Any) -> None:
        """Show new figures: fields of `StepFigures`, TypeError for any other. None means that nothing is new about it."""
        before = self._figures.step
        self._figures = replace(self._figures, **{name: value for name, value in figures.items() if value is not None})
        step = self._figures.step
        if step is None or step == before:
            return
        self._pace.append((self._clock(), step))
        if self._figures.reward is not None:
            self._rewards.append(self._figures.reward)
        if self._live is None:
            said = [f"{name} {value}".strip() for name, value in self._said()]
            self._print(" · ".join([f"step {step}/{self._total}", *said, *self._ahead()]))

    def note(self, message: str) -> None:
        """Say an event on a line of its own, above the display."""
        message = clean(message)
        if self._live is None:
            self._print(message)
        else:
            self._live.console.print(Text(message))

    def remaining_s(self) -> float | None:
        """Seconds to go at the pace of the last steps; None before two steps were seen."""
        if len(self._pace) < 2:
            return None
        (began, first), (now, last) = self._pace[0], self._pace[-1]
        return max(0.0, (self._total - last) * (now - began) / (last - first)) if last > first else None

    def _said(self) -> list[tuple[str, str]]:
        """The figures that are known, as (name, value); the name is empty where the unit says it all."""
        f, said = self._figures, list[tuple[str, str]]()
        if f.reward is not None:
            said.append(("reward", f"{f.reward:+.2f}"))
        if f.accuracy is not None:
            said.append(("accuracy", f"{100 * f.accuracy:.1f} %"))
        if f.parse_failure_rate is not None:
            said.append(("parse failures", f"{100 * f.parse_failure_rate:.1f} %"))
        if f.staleness_max is not None:
            said.append(("staleness", f"{f.staleness_max:.0f}/{self._bound}"))
        if f.tokens_per_s is not None:
            said.append(("", f"{f.tokens_per_s:,.0f} tokens/s"))
        if f.workers is not None:
            said.append(("", f"{f.workers} worker" + "s" * (f.workers != 1)))
        if f.queues:
            said.append(("queues", " ".join(f"{name} {length}" for name, length in f.queues.items())))
        return said

    def _ahead(self) -> list[str]:
        remaining = self.remaining_s()
        return [] if remaining is None else [f"{duration(remaining)} to go"]

    def _print(self, line: str) -> None:
        """A whole line in the stream's own encoding: what it cannot say becomes `?`, never an error."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)

    def _panel(self) -> Group:
        """Title and time, the bar, the figures, and the rewards of the last steps as blocks."""
        step = self._figures.step or 0
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        times = " · ".join([duration(self._clock() - self._began), *self._ahead()])
        head.add_row(
            Text(f"{clean(self._title)}  step {step}/{self._total}".strip(), style="bold"),
            Text(times, style="dim"),
        )
        bar = Table.grid(expand=True)  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=max(1, self._total), completed=step, complete_style="cyan", finished_style="green"))
        said = Columns([self._phrase(name, value) for name, value in self._said()], padding=(0, 3))
        return Group(Text(), head, bar, said, Text(blocks(self._rewards), style="cyan"))

    def _phrase(self, name: str, value: str) -> Text:
        """One figure of the panel; red where the staleness bound was broken, which must never happen."""
        broken = name == "staleness" and (self._figures.staleness_max or 0) > self._bound
        return Text.assemble((name and f"{name} ", "dim"), (value, "bold red" if broken else ""))


def blocks(values: deque[float]) -> str:
    """Values in -1..1 as a line of blocks, the newest at the right."""
    return "".join(BLOCKS[min(7, max(0, int((value + 1) * 4)))] for value in values)


def duration(seconds: float) -> str:
    """4.2 -> 0:04, 75 -> 1:15, 3700 -> 1:01:40."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
