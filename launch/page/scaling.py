"""The inference-time scaling curve: accuracy over the number of votes, plain and guided by the meta-RM.

It reads figures as summary.json and table.json hold them: {"vote@8": {"value", "low", "high", "rows"}, ...}.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from grm.benchmarks import TableRow
from launch.page.charts import Axes, Level, Line, Markup, Point, svg, tag
from launch.page.curves import finite, percent

VoteFigures = Mapping[str, Any]
KINDS = (("vote@", "votes", "a"), ("guided@", "guided by the meta-RM", "b"), ("majority@", "majority", "c"))


def vote_metrics(row: TableRow) -> dict[str, float]:
    """The metrics of a counted poll, by the names of design.md section 6; accuracy@1 there is that of greedy judgements,
    so one sampled vote has none."""
    names = {"vote@": "eval/accuracy@", "guided@": "eval/meta_accuracy@"}
    found = {}
    for name, figure in row.figures.items():
        kind, at, k = name.partition("@")
        if kind + at in names and k.isdigit() and k != "1":
            found[names[kind + at] + k] = figure.value
    return found


def value(figures: VoteFigures, name: str, part: str = "value") -> float | None:
    """A number of a figure; None where there is none."""
    figure = figures.get(name)
    found = figure.get(part) if isinstance(figure, Mapping) else None
    return float(found) if finite(found) else None


def largest_k(figures: VoteFigures, kind: str) -> int | None:
    """The largest k that a kind (`vote@`, `guided@`) was counted at."""
    ks = [k for k, _ in _points(figures, kind)]
    return int(max(ks)) if ks else None


def scaling_card(figures: VoteFigures, *, title: str, what: str) -> Markup | None:
    """The chart of one policy, k on a logarithmic axis; None where no votes were counted."""
    lines = [
        Line(name=name, metric=f"{kind}k", tone=tone, points=[(math.log2(k), y) for k, y in found])
        for kind, name, tone in KINDS
        if (found := _points(figures, kind))
    ]
    if not lines:
        return None
    greedy = value(figures, "greedy")
    levels = [Level(name="greedy", value=greedy, limit=False)] if greedy is not None else []
    axes = Axes(
        x_name="votes",
        show_x=lambda x: f"{2**x:.0f}",
        show_y=percent,
        low=None,
        high=None,
        whole_x=True,
        x_named=True,
        whole_y=False,
    )
    keys = [tag("span", tag("i", class_=line.tone), f"{line.name} ", tag("b", percent(line.points[-1][1]))) for line in lines]
    keys += [tag("span", tag("i", class_="level"), f"{level.name} {percent(level.value)}") for level in levels]
    chart = svg(lines, levels, axes)
    return tag(
        "figure", tag("h3", title), tag("p", what, class_="what"), tag("div", *keys, class_="keys"), chart, class_="card"
    )


def _points(figures: VoteFigures, kind: str) -> list[Point]:
    found = [
        (float(name.removeprefix(kind)), y)
        for name in figures
        if re.fullmatch(re.escape(kind) + r"[1-9]\d*", name) and (y := value(figures, name)) is not None
    ]
    return sorted(found)
