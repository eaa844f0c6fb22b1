"""The progress display of a run: a live panel on a terminal, plain lines anywhere else (a log, `ray job logs`, CI).

    with ProgressDisplay(total_steps=120, bound=4) as progress:
        progress.activity("starting Ray")
        progress.activity("judging the base", done=120, total=400)
        progress.update(step=1, reward=-0.21, staleness_max=0, tokens_per_s=2310, queues={"prompts": 3})
        progress.note("evaluated: accuracy 61.2 % → 74.8 %")

An activity is what the run does now; it takes the place of the steps until `update` shows the next one. A figure stays until it
is updated. Plain output is a line a step, a line for an activity and one for each tenth of it, and holds no control characters,
whatever a message contains.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launch.monitoring.plain_text import clean

BLOCKS = "▁▂▃▄▅▆▇█"
TENTHS = 10  # lines of a counted activity in plain output
PACE_STEPS = 20  # last steps that the remaining time is estimated from
SHOWN_REWARDS = 32  # last steps whose rewards are drawn
REWARDS = "reward of the last steps "
GAP = 3  # blanks between two figures


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """What the run does now, beside its optimiser steps."""

    text: str
    """In words."""
    done: int = 0
    """How much of it is done."""
    total: int = 0
    """Of how much; 0 where nobody can count it."""

    def describe(self) -> str:
        """Returns it in words, with what is done where that is counted."""
        return f"{self.text} {self.done}/{self.total}" if self.total else self.text


class ShowActivity(Protocol):
    """`ProgressDisplay.activity`, for those who get no more of the display."""

    def __call__(self, text: str, *, done: int = 0, total: int = 0) -> None: ...


def show_nothing(text: str, *, done: int = 0, total: int = 0) -> None:
    """A `ShowActivity` of those who show none."""


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
        self._activity: Activity | None = None
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

    def close(self) -> None:
        """Take the panel away, and print what comes from now on as lines. What it last showed stays if it was of a step."""
        if self._live is not None:
            self._activity = None
            self._live.transient = self._figures.step is None
            self._live.stop()
            self._live = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def begin_run(self, title: str, *, elapsed_s: float) -> None:
        """Name the run, and count the time from its beginning.

        Args:
            title: The run's id.
            elapsed_s: Seconds that it has taken by now, those of earlier tries included.
        """
        self._title, self._began = title, self._clock() - elapsed_s

    def resume(self, step: int, *, rewards: Iterable[float], accuracy: float | None) -> None:
        """Show what an earlier try has reached, before the first step of this one.

        Args:
            step: Optimiser steps done.
            rewards: Mean reward of each step so far.
            accuracy: Of the last evaluation, 0..1.
        """
        self._rewards.extend(rewards)
        self._figures = replace(self._figures, step=step, accuracy=self._figures.accuracy if accuracy is None else accuracy)

    def activity(self, text: str, *, done: int = 0, total: int = 0) -> None:
        """Show what the run does now.

        Args:
            text: In words.
            done: How much of it is done.
            total: Of how much; 0 where nobody can count it.
        """
        before, self._activity = self._activity, Activity(text=clean(text), done=done, total=total)
        if self._live is None and (before is None or _tenth(before) != _tenth(self._activity)):
            self._print(self._activity.describe())

    def update(self, **figures: Any) -> None:
        """Show new figures.

        Args:
            **figures: fields of `StepFigures`; None leaves a figure as it is.

        Raises:
            TypeError: there is no such figure.
        """
        before = self._figures.step
        self._activity = self._activity if figures.get("step") is None else None
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
        now = self._activity or Activity(text="step", done=step, total=max(1, self._total))
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        times = " · ".join([duration(self._clock() - self._began), *(self._remaining_text() if self._activity is None else ())])
        head.add_row(Text(f"{clean(self._title)}  {now.describe()}".strip(), style="bold"), Text(times, style="dim"))
        bar = Table.grid(expand=True)  # a bar alone does not end its line
        counted = {"total": float(now.total), "completed": now.done} if now.total else {"total": None}
        bar.add_row(ProgressBar(**counted, pulse=not now.total, complete_style="cyan", finished_style="green"))
        figures = Flow([self._styled(name, value) for name, value in self._labelled_figures()])
        return Group(Text(), head, bar, figures, self._reward_blocks())

    def _reward_blocks(self) -> Text:
        """Returns the rewards of the last steps, with what they are; empty before the first."""
        drawn = blocks(self._rewards)
        return Text.assemble((REWARDS, "dim"), (drawn, "cyan")) if drawn else Text()

    def _styled(self, name: str, value: str) -> Text:
        """Returns one figure of the panel; red where the staleness bound was broken, which must never happen."""
        broken = name == "staleness" and (self._figures.staleness_max or 0) > self._bound
        return Text.assemble((name and f"{name} ", "dim"), (value, "bold red" if broken else ""))


class Flow:
    """Texts beside each other, as many in a line as have room."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._texts = texts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = Text()
        for text in self._texts:
            if line and line.cell_len + GAP + text.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text.assemble(line, " " * GAP if line else "", text)
        yield line


def _tenth(activity: Activity) -> tuple[str, int]:
    return activity.text, activity.done * TENTHS // activity.total if activity.total else 0


def blocks(values: Iterable[float]) -> str:
    """Draw values in -1..1 as a line of blocks."""
    return "".join(BLOCKS[min(7, max(0, int((value + 1) * 4)))] for value in values)


def duration(seconds: float) -> str:
    """Format seconds as a clock does: 4.2 -> 0:04, 75 -> 1:15, 3700 -> 1:01:40."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
