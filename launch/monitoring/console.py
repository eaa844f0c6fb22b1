"""The progress display of a run: a live panel on a terminal, plain lines anywhere else (a log, `ray job logs`, CI).

    with ProgressDisplay(total_steps=120, bound=4) as progress:
        progress.update(step=1, reward=-0.21, staleness_max=0, tokens_per_s=2310, queues={"prompts": 3})
        progress.note("evaluated: accuracy 61.2 % → 74.8 %")

A figure stays until it is updated. Plain output is at most one line a step, and holds no control characters, whatever a
message contains.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
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
PACE_STEPS = 20  # last steps that the remaining time is estimated from
SHOWN_REWARDS = 32  # last steps whose rewards are drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFigures:
    """The figures on display; None, and no queues, while there is no value yet."""

    step: int | None = None
    """Optimiser steps done."""
    reward: float | None = None
    """Mean reward of the step, -1..1."""
    accuracy: float | None = None
    """Held-out accuracy of the last evaluation, 0..1."""
    parse_failure_rate: float | None = None
    """Share of completions that did not parse, 0..1."""
    staleness_max: float | None = None
    """Largest staleness of a trained group, in policy versions."""
    tokens_per_s: float | None = None
    """Tokens sampled per second by all rollout actors."""
    workers: int | None = None
    """Rollout actors running."""
    queues: Mapping[str, int] = field(default_factory=dict)
    """{stream: entries waiting}."""


class ProgressDisplay:
    """Displays the progress towards `total_steps` optimiser steps. Not thread-safe: the driver alone calls it."""

    def __init__(
        self,
        total_steps: int,
        bound: int,
        stream: TextIO | None = None,
        *,
        title: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the display; entering it as a context starts it.

        Args:
            total_steps: optimiser steps of the whole run.
            bound: the staleness bound; a staleness above it is shown in red.
            stream: where to print; standard output by default.
            title: name of the run, shown on a terminal.
            clock: seconds, ascending.
        """
        self._total, self._bound, self._title, self._clock = total_steps, bound, title, clock
        self._stream = stream if stream is not None else sys.stdout
        self._figures = StepFigures()
        self._rewards: deque[float] = deque(maxlen=SHOWN_REWARDS)
        self._pace: deque[tuple[float, int]] = deque(maxlen=PACE_STEPS + 1)
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
        """Show new figures.

        Args:
            **figures: fields of `StepFigures`; None leaves a figure as it is.

        Raises:
            TypeError: there is no such figure.
        """
        before = self._figures.step
        self._figures = replace(self._figures, **{name: value for name, value in figures.items() if value is not None})
        step = self._figures.step
        if step is None or step == before:
            return
        self._pace.append((self._clock(), step))
        if self._figures.reward is not None:
            self._rewards.append(self._figures.reward)
        if self._live is None:
            figure_texts = [f"{name} {value}".strip() for name, value in self._labelled_figures()]
            self._print(" · ".join([f"step {step}/{self._total}", *figure_texts, *self._remaining_text()]))

    def note(self, message: str) -> None:
        """Print an event on a line of its own, above the panel."""
        message = clean(message)
        if self._live is None:
            self._print(message)
        else:
            self._live.console.print(Text(message))

    def remaining_s(self) -> float | None:
        """Estimate the remaining seconds from the pace of the last steps; None before the second step."""
        if len(self._pace) < 2:
            return None
        (began, first), (now, last) = self._pace[0], self._pace[-1]
        return max(0.0, (self._total - last) * (now - began) / (last - first)) if last > first else None

    def _labelled_figures(self) -> list[tuple[str, str]]:
        """Returns (name, value) of each figure that has a value; the name is empty where the unit suffices."""
        f, labelled = self._figures, list[tuple[str, str]]()
        if f.reward is not None:
            labelled.append(("reward", f"{f.reward:+.2f}"))
        if f.accuracy is not None:
            labelled.append(("accuracy", f"{100 * f.accuracy:.1f} %"))
        if f.parse_failure_rate is not None:
            labelled.append(("parse failures", f"{100 * f.parse_failure_rate:.1f} %"))
        if f.staleness_max is not None:
            labelled.append(("staleness", f"{f.staleness_max:.0f}/{self._bound}"))
        if f.tokens_per_s is not None:
            labelled.append(("", f"{f.tokens_per_s:,.0f} tokens/s"))
        if f.workers is not None:
            labelled.append(("", f"{f.workers} worker" + "s" * (f.workers != 1)))
        if f.queues:
            labelled.append(("queues", " ".join(f"{name} {length}" for name, length in f.queues.items())))
        return labelled

    def _remaining_text(self) -> list[str]:
        remaining = self.remaining_s()
        return [] if remaining is None else [f"{duration(remaining)} to go"]

    def _print(self, line: str) -> None:
        """Print a line in the stream's own encoding; a character that it lacks becomes `?`, never an error."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)

    def _panel(self) -> Group:
        """Returns title and time, the bar, the figures, and the rewards of the last steps as blocks."""
        step = self._figures.step or 0
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        times = " · ".join([duration(self._clock() - self._began), *self._remaining_text()])
        head.add_row(
            Text(f"{clean(self._title)}  step {step}/{self._total}".strip(), style="bold"),
            Text(times, style="dim"),
        )
        bar = Table.grid(expand=True)  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=max(1, self._total), completed=step, complete_style="cyan", finished_style="green"))
        figures = Columns([self._styled(name, value) for name, value in self._labelled_figures()], padding=(0, 3))
        return Group(Text(), head, bar, figures, Text(blocks(self._rewards), style="cyan"))

    def _styled(self, name: str, value: str) -> Text:
        """Returns one figure of the panel; red where the staleness bound was broken, which must never happen."""
        broken = name == "staleness" and (self._figures.staleness_max or 0) > self._bound
        return Text.assemble((name and f"{name} ", "dim"), (value, "bold red" if broken else ""))


def blocks(values: Iterable[float]) -> str:
    """Draw values in -1..1 as a line of blocks."""
    return "".join(BLOCKS[min(7, max(0, int((value + 1) * 4)))] for value in values)


def duration(seconds: float) -> str:
    """Format seconds as a clock does: 4.2 -> 0:04, 75 -> 1:15, 3700 -> 1:01:40."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
