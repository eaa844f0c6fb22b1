"""The report page of a run, drawn from the files in its folder.

summary.json, config.yaml, metrics.jsonl, samples.jsonl ─▶ RunFiles ─▶ sections ─▶ report.html
"""

import json
import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.monitoring.redaction import redacted
from launch.monitoring.tracker import METRICS_FILE, SAMPLES_FILE
from launch.page.breakdown import breakdown
from launch.page.cards import CARDS
from launch.page.curves import card_figure
from launch.page.headline import facts, headline
from launch.page.judgements import cases, prose
from launch.page.markup import Markup, join, tag
from launch.page.number_format import finite
from launch.page.run_summary import Summary
from launch.page.stage_table import stages

TEMPLATE = Path(__file__).with_name("report.html")


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
    path.write_text(page, encoding="utf-8")
    return path


def read(run_folder: Path) -> RunFiles:
    """Read all that the page needs; what cannot be read becomes a problem, because a crash may leave such lines.

    Raises:
        ReportError: the folder is missing, or holds no run at all.
    """
    names = ("summary.json", "config.yaml", METRICS_FILE, SAMPLES_FILE)
    if not any((run_folder / name).is_file() for name in names):
        raise ReportError(f"{run_folder} holds none of {', '.join(names)}: name the folder of a run, runs/<run id>")
    problems: list[str] = []
    config = run_folder / "config.yaml"
    records = [
        row
        for row in _rows(run_folder / METRICS_FILE, problems)
        if isinstance(row.get("metrics"), dict) and finite(row.get("elapsed_s"))
    ]
    return RunFiles(
        summary=_summary(run_folder / "summary.json", problems),
        records=records,
        problems=problems,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        samples=_rows(run_folder / SAMPLES_FILE, problems),
    )


def _summary(path: Path, problems: list[str]) -> Summary:
    summary: Any = {}
    if path.is_file():
        try:
            summary = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        except json.JSONDecodeError as error:
            problems.append(f"summary.json could not be read: {error}.")
    else:
        problems.append("There is no summary.json: the run is still running, or ended before it could write one.")
    return Summary(values=summary if isinstance(summary, dict) else {})


def _rows(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    rows, bad = list[dict[str, Any]](), 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            row = json.loads(line) if line.strip() else None
        except json.JSONDecodeError:
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
        _head(run),
        headline(summary, run.records),
        facts(summary),
        stages(summary),
        _curves(run),
        breakdown(summary),
        cases(run.samples),
        _config(run),
        _foot(),
    )
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=join([title]), body=join(section for section in sections if section is not None))


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
