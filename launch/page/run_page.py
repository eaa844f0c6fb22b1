"""The report page of a run, drawn from the files in its folder.

summary.json, config.yaml, metrics.jsonl, samples.jsonl ─▶ RunFiles ─▶ sections ─▶ report.html
"""

import os
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buffer import files
from launch.monitoring.records import finite
from launch.monitoring.redaction import redacted
from launch.monitoring.tracker import METRICS_FILE, SAMPLES_FILE
from launch.page.breakdown import breakdown
from launch.page.cards import CARDS
from launch.page.curves import card_figure
from launch.page.headline import facts, headline
from launch.page.judgements import cases, prose
from launch.page.lenient_json import NOT_JSON, parsed
from launch.page.markup import Markup, join, tag
from launch.page.run_summary import Summary
from launch.page.stage_table import stages

TEMPLATE = Path(__file__).with_name("report.html")
SUMMARY_FILE, CONFIG_FILE = "summary.json", "config.yaml"
FILES = (SUMMARY_FILE, CONFIG_FILE, METRICS_FILE, SAMPLES_FILE)
UNUSABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)  # what odd values cause
LONGEST = 200  # characters of an error that are shown


class ReportError(ValueError):
    """There is nothing to report on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """The content of a run folder."""

    summary: Summary
    """summary.json; empty where it is missing."""
    config: str
    """config.yaml as text; "" where it is missing."""
    records: Sequence[Mapping[str, Any]]
    """The rows of metrics.jsonl."""
    samples: Sequence[Mapping[str, Any]]
    """The rows of samples.jsonl."""
    problems: list[str] = field(default_factory=list)
    """A sentence for each thing that could not be read."""


def write_report(run_folder: Path) -> Path:
    """Write run_folder/report.html, and return its path.

    Raises:
        ReportError: the folder is missing, or holds no run at all.
    """
    page = render(read(run_folder))
    path = run_folder / "report.html"
    try:
        files.write(path, page)
    except OSError as error:
        raise ReportError(f"{path} cannot be written ({error.strerror}): make the folder writable, or copy it") from None
    return path


def holds_run(folder: Path) -> bool:
    """Whether a folder holds anything that a report can be drawn from."""
    return any((folder / name).is_file() for name in FILES)


def read(run_folder: Path) -> RunFiles:
    """Read all that the page needs; what cannot be read becomes a problem, because a crash may leave such lines.

    Raises:
        ReportError: the folder is missing, or holds no run at all.
    """
    if not holds_run(run_folder):
        raise ReportError(f"{run_folder} holds none of {', '.join(FILES)}: name the folder of a run, runs/<run id>")
    problems: list[str] = []
    records = [
        row
        for row in _rows(run_folder / METRICS_FILE, problems)
        if isinstance(row.get("metrics"), dict) and finite(row.get("elapsed_s"))
    ]
    return RunFiles(
        summary=_summary(run_folder / SUMMARY_FILE, problems),
        records=records,
        problems=problems,
        config=_text(run_folder / CONFIG_FILE, problems),
        samples=_rows(run_folder / SAMPLES_FILE, problems),
    )


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        problems.append(f"{path.name} could not be read: {error.strerror}.")
        return ""


def _summary(path: Path, problems: list[str]) -> Summary:
    summary: Any = {}
    if text := _text(path, problems):
        try:
            summary = parsed(text)
        except NOT_JSON as error:
            problems.append(f"{path.name} could not be read: {error}.")
    elif not path.is_file():
        problems.append(f"There is no {path.name}: the run is still running, or ended before it could write one.")
    return Summary(values=summary if isinstance(summary, dict) else {})


def _rows(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    rows, bad = list[dict[str, Any]](), 0
    for line in _text(path, problems).split("\n"):
        try:
            row = parsed(line) if line.strip() else None
        except NOT_JSON:
            row = False
        bad += row is not None and not isinstance(row, dict)
        if isinstance(row, dict):
            rows.append(row)
    if bad:
        problems.append(
            f"{path.name}: {bad} line{'s' * (bad != 1)} could not be read and {'was' if bad == 1 else 'were'} left out."
        )
    return rows


def render(run: RunFiles) -> str:
    """Returns the whole page."""
    title = " · ".join(filter(None, ("SPCT", run.summary.text("preset"), run.summary.text("run_id"))))
    summary = run.summary
    sections = (
        _drawn("head", lambda: _head(run)),
        _drawn("headline", lambda: headline(summary, run.records)),
        _drawn("facts", lambda: facts(summary)),
        _drawn("stages", lambda: stages(summary)),
        _drawn("curves", lambda: _curves(run)),
        _drawn("breakdown", lambda: breakdown(summary)),
        _drawn("judgements", lambda: cases(run.samples)),
        _config(run),
        _foot(),
    )
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=join([title]), body=join(section for section in sections if section is not None))


def _drawn(name: str, draw: Callable[[], Markup | None]) -> Markup | None:
    """Draw a section, or say that it cannot be drawn: values of the right type may still make no sense."""
    try:
        return draw()
    except UNUSABLE as error:
        what = f"This part of the report ({name}) cannot be drawn: a file of the run holds impossible values"
        return tag("section", tag("p", f"{what} ({type(error).__name__}: {str(error)[:LONGEST]}).", class_="notice"))


def _head(run: RunFiles) -> Markup:
    """Draw which run this is, how it ended, and what to know before reading on."""
    text = run.summary.text
    state = text("finished") or "unfinished"
    tone = {"completed": "state good", "failed": "state bad"}.get(state, "state")
    names = (text("preset"), f"seed {text('seed')}" if text("seed") else "", text("run_id"))
    ends = {"stopped": "was stopped", "failed": "failed"}
    end = f"The run {ends[state]} before it was complete; the figures cover what it had done." if state in ends else ""
    error = re.sub(r"\x1b\[[0-9;]*m", "", text("error"))  # Ray colours its tracebacks
    notices = [sentence for sentence in (end, error, *run.problems) if sentence]
    notice = tag("div", *map(prose, notices), class_="notice") if notices else None
    line = (tag("b", "SPCT run"), *(tag("span", name) for name in names if name), tag("span", state, class_=tone))
    return tag("header", tag("div", *line, class_="over"), notice)


def _curves(run: RunFiles) -> Markup:
    figures = [(card.title, card_figure(card, run.records, run.summary.figure)) for card in CARDS]
    absent = [title for title, figure in figures if figure is None]
    note = tag("p", f"Not recorded in this run: {', '.join(absent)}.", class_="absent") if absent else None
    intro = "Hover over a curve to read its values. Where a line is drawn twice, the bold one is the running mean."
    return tag(
        "section", tag("h2", "Curves"), tag("p", intro), tag("div", *(figure for _, figure in figures), class_="grid"), note
    )


def _config(run: RunFiles) -> Markup:
    text = redacted(run.config, os.environ) or "config.yaml is missing from the run folder."
    return tag("section", tag("details", tag("summary", "Configuration"), tag("pre", text), class_="box"))


def _foot() -> Markup:
    text = [
        "Generated by launch/report.py from the run folder. To see every metric, open the offline run in a terminal with ",
        tag("code", "wandb leet <run folder>/wandb"),
        ", upload it with ",
        tag("code", "wandb sync"),
        ", or read ",
        tag("code", METRICS_FILE),
        ".",
    ]
    return tag("footer", *text)
