import io
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from launch.monitoring.console import ProgressDisplay, duration

FIGURES: dict[str, Any] = {
    "reward": -0.214,
    "accuracy": 0.6124,
    "parse_failure_rate": 0.018,
    "staleness_max": 3,
    "tokens_per_s": 2310.4,
    "workers": 2,
    "queues": {"prompts": 3, "rollouts": 0},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_output_is_one_line_a_step() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(120, 4, stream, clock=clock) as progress:
        for step in (1, 1, 2, 2, 3):
            clock.now = 2.0 * step
            progress.update(step=step, **FIGURES)
            progress.update(reward=0.5)
        progress.note("evaluated: accuracy 61.2 % → 74.8 %")
    first, second, third, event = stream.getvalue().splitlines()
    assert first == (
        "step 1/120 · reward -0.21 · accuracy 61.2 % · parse failures 1.8 % · staleness 3/4 · 2,310 tokens/s"
        " · 2 workers · queues prompts 3 rollouts 0"
    )
    assert second.startswith("step 2/120 · ")
    assert third.endswith(" · 3:54 to go"), "117 steps of 2 s"
    assert event == "evaluated: accuracy 61.2 % → 74.8 %"


def test_a_figure_stays_until_it_is_updated() -> None:
    stream = io.StringIO()
    with ProgressDisplay(9, 0, stream) as progress:
        progress.update(step=1, accuracy=0.5)
        progress.update(step=2, accuracy=None, workers=1)
    assert stream.getvalue().splitlines()[1].startswith("step 2/9 · accuracy 50.0 % · 1 worker · ")


def test_nothing_is_printed_before_the_first_step() -> None:
    stream = io.StringIO()
    with ProgressDisplay(9, 0, stream) as progress:
        progress.update(accuracy=0.5)
    assert stream.getvalue() == ""


def test_unknown_figure_is_refused() -> None:
    with ProgressDisplay(9, 0, io.StringIO()) as progress, pytest.raises(TypeError, match="rewrad"):
        progress.update(step=1, rewrad=0.5)


def test_time_to_go_follows_the_last_steps() -> None:
    clock = Clock()
    progress = ProgressDisplay(100, 1, io.StringIO(), clock=clock)
    assert progress.remaining_s() is None
    for step in range(31, 81):  # resumed at 30; the first steps were slow
        clock.now += 60.0 if step < 50 else 3.0
        progress.update(step=step)
    assert progress.remaining_s() == pytest.approx(20 * 3.0)


@given(st.text())
def test_no_message_prints_control_characters_or_more_lines(message: str) -> None:
    stream = io.StringIO()
    with ProgressDisplay(9, 0, stream) as progress:
        progress.note(message)
    line = stream.getvalue()
    assert line.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", line)
    assert line.count("\n") == 1


def test_a_stream_that_lacks_a_character_is_no_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with ProgressDisplay(9, 0, stream) as progress:
        progress.note("61 % → 70 %")
    assert raw.getvalue() == b"61 % ? 70 %\n"


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    with ProgressDisplay(9, 0, stream) as progress:
        progress.update(step=1, workers=2)
    assert stream.getvalue() == "step 1/9 · 2 workers\n"


def test_the_terminal_shows_every_figure_and_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with suppress(KeyboardInterrupt), ProgressDisplay(120, 4, stream, title="spct \x1b[2J tiny") as progress:
        progress.update(step=12, **FIGURES | {"staleness_max": 5})
        progress.note("[bold]evaluated[/bold]: 61 %")
        raise KeyboardInterrupt
    raw = stream.getvalue()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    for shown in (
        "step 12/120",
        "reward -0.21",
        "accuracy 61.2 %",
        "parse failures 1.8 %",
        "staleness 5/4",
        "2,310 tokens/s",
        "2 workers",
        "prompts 3 rollouts 0",
        "[bold]evaluated[/bold]: 61 %",
        "▄",
    ):
        assert shown in text
    assert "\x1b[2J" not in raw
    assert "\x1b[1;31m5/4" in raw, "a broken bound stands out"
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l"), "the cursor is shown again"


def test_durations_are_written_as_a_clock_shows_them() -> None:
    assert [duration(seconds) for seconds in (4.2, 75, 3700)] == ["0:04", "1:15", "1:01:40"]


# ---- what the run does beside its steps ----------------------------------------------------------------------------


def test_an_activity_is_a_line_and_a_counted_one_a_line_for_each_tenth() -> None:
    stream = io.StringIO()
    with ProgressDisplay(9, 0, stream) as progress:
        progress.activity("starting Redis and Ray")
        progress.activity("starting Redis and Ray")
        for done in range(401):
            progress.activity("judging the base", done=done, total=400)
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["starting Redis and Ray", "judging the base 0/400", "judging the base 40/400"]
    assert lines[-1] == "judging the base 400/400"
    assert len(lines) == 1 + 11


def screen(progress: ProgressDisplay, columns: int) -> list[str]:
    """The panel on a terminal of so many columns."""
    console = Console(width=columns, file=io.StringIO(), force_terminal=False)
    console.print(progress._panel())
    output = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in output.splitlines() if line.strip()]


@pytest.mark.parametrize("columns", [80, 160])
def test_the_panel_shows_what_the_run_does_now(columns: int) -> None:
    clock = Clock()
    progress = ProgressDisplay(80, 1, Terminal(), title="tiny", clock=clock)
    clock.now = 12.0
    progress.activity("judging the base", done=120, total=400)
    head, bar = screen(progress, columns)
    assert head == "tiny  judging the base 120/400".ljust(columns - 4) + "0:12"
    assert set(bar) == {"━"}
    assert len(bar) <= columns
    progress.update(step=1, **FIGURES)
    head, *_ = screen(progress, columns)
    assert head.startswith("tiny  step 1/80 ")
    assert max(map(len, screen(progress, columns))) <= columns


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (80, ["reward -0.21   accuracy 61.2 %   parse failures 1.8 %   staleness 3/1", "2,310 tokens/s   2 workers   queues"]),
        (160, ["reward -0.21   accuracy 61.2 %   parse failures 1.8 %   staleness 3/1   2,310 tokens/s   2 workers   queues"]),
    ],
)
def test_figures_fill_the_lines_of_the_terminal(columns: int, lines: list[str]) -> None:
    progress = ProgressDisplay(80, 1, Terminal())
    progress.update(step=1, **FIGURES)
    _, _, *figures, rewards = screen(progress, columns)
    assert [line.partition(" prompts")[0] for line in figures] == lines
    assert rewards == "reward of the last steps ▄"


def test_a_long_activity_is_shown_whole() -> None:
    progress = ProgressDisplay(80, 1, Terminal(), title="tiny-20261128-034500-s0")
    progress.activity("starting the GRPO learner, the meta-RM learner, the reward actor, a rollout actor", done=1, total=4)
    first, second, _ = screen(progress, 80)
    assert first.startswith("tiny-20261128-034500-s0  starting the GRPO learner,")
    assert first.endswith(" 0:00")
    assert second.endswith("a rollout actor 1/4")


def test_a_resumed_run_shows_the_whole_run() -> None:
    clock = Clock()
    progress = ProgressDisplay(15, 1, Terminal(), clock=clock)
    clock.now = 5.0
    progress.begin_run("mine", elapsed_s=65.0)
    progress.resume(7, rewards=[-1.0, 0.0, 1.0], accuracy=0.83)
    shown = screen(progress, 80)
    assert shown[0].startswith("mine  step 7/15 ")
    assert shown[0].endswith("1:05")
    assert "accuracy 83.0 %" in shown[2]
    assert shown[3] == "reward of the last steps ▁▅█"
    clock.now += 90.0  # the actors start
    progress.update(step=8, reward=0.5)
    assert progress.remaining_s() is None
    clock.now += 4.0
    progress.update(step=9, reward=0.5)
    assert progress.remaining_s() == pytest.approx(6 * 4.0), "the pace is that of this try's steps, without its start"


def test_what_is_refused_at_the_door_leaves_no_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = ProgressDisplay(9, 0, stream)
    with suppress(ValueError), progress:
        progress.activity("reading the data")
        raise ValueError("bad row")
    terminal = re.sub(r"\x1b\[[0-9;?]*[hlm]", "", stream.getvalue())
    assert terminal.endswith("\x1b[2K"), "the last thing is that its lines are erased"
    progress.note("afterwards a note is a line")
    assert stream.getvalue().endswith("afterwards a note is a line\n")
