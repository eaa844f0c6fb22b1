"""The report's stage_table of the method: a row for each stage, and the scaling curve of each policy that voted.

base ─ cold start ─ online RL: greedy, K votes, K votes guided by the meta-RM
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grm.statistics import wilson
from launch.page.charts import Markup, tag
from launch.page.curves import number, percent
from launch.page.headline import Summary
from launch.page.scaling import largest_k, scaling_card, value

POLICIES = (("before", "base"), ("cold_start", "cold start"), ("after", "online RL"))
Cell = tuple[float, float, float] | None  # value, low, high


def stages(summary: Summary) -> Markup | None:
    """None for a run that was neither evaluated nor voted on."""
    known = [(name, when) for when, name in POLICIES if summary.figure("accuracy", when) is not None or _votes(summary, when)]
    if not known:
        return None
    ks = [k for _, when in known if (k := largest_k(_votes(summary, when), "vote@"))]
    columns = ["greedy", *([f"votes@{max(ks)}", f"meta-guided votes@{max(ks)}"] if ks else [])]
    head = tag("tr", tag("th", "policy"), *(tag("th", column) for column in columns))
    lines = [tag("tr", tag("th", name), *map(_cell, _cells(summary, when, ks))) for name, when in known]
    cards = [
        scaling_card(_votes(summary, when), title=f"Votes of the {name} policy", what=_what(summary, when))
        for name, when in known
    ]
    grid = tag("div", *cards, class_="grid") if any(cards) else None
    return tag(
        "section",
        tag("h2", "Stage by stage"),
        tag("p", _said(summary, bool(ks))),
        tag("div", tag("table", head, *lines, class_="figures"), class_="wide"),
        grid,
    )


def _votes(summary: Summary, when: str) -> Mapping[str, Any]:
    votes = summary.values.get("votes")
    found = votes.get(when) if isinstance(votes, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _cells(summary: Summary, when: str, ks: list[int]) -> list[Cell]:
    rows, greedy = summary.figure("heldout", "rows"), summary.figure("accuracy", when)
    cells: list[Cell] = [(greedy, *wilson(greedy, rows)) if greedy is not None and rows else None]
    return cells + [_figure(_votes(summary, when), f"{kind}@{max(ks)}") for kind in ("vote", "guided") if ks]


def _figure(figures: Mapping[str, Any], name: str) -> Cell:
    found = [value(figures, name, part) for part in ("value", "low", "high")]
    middle, low, high = found
    return None if middle is None or low is None or high is None else (middle, low, high)


def _cell(cell: Cell) -> Markup:
    if cell is None:
        return tag("td", "—")
    middle, low, high = cell
    return tag("td", percent(middle), tag("small", f" {percent(low)} – {percent(high)}"))


def _what(summary: Summary, when: str) -> str:
    rows = value(_votes(summary, when), "vote@1", "rows")
    on = f" on {number(rows)} held-out preferences" if rows is not None else ""
    return f"k sampled judgements summed, responses re-shuffled before each{on}; the meta-RM lets the better half vote."


def _said(summary: Summary, voted: bool) -> str:
    found = summary.values.get("cold_start")
    counts = found.get("verdicts") if isinstance(found, Mapping) else None
    sampled = ""
    if isinstance(counts, Mapping):
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        sampled = f" The cold start sampled: {said}."
    return (
        "Accuracy on held-out preferences, with 95 % intervals"
        + ("; votes may be on fewer of them than greedy judgements." if voted else ".")
        + sampled
    )
