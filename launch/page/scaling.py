"""The inference-time scaling curve: accuracy over the number of votes, plain and guided by the meta-RM.

Figures are read as summary.json and table.json hold them: {"vote@8": {"value", "low", "high", "rows"}, ...}.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from grm.benchmarks import TableRow
from launch.monitoring.records import Point, finite
from launch.page.charts import Axes, Level, Line, svg
from launch.page.curves import legend
from launch.page.markup import Markup, tag
from launch.page.number_format import percent

VoteFigures = Mapping[str, Any]
# (prefix of the figure, name of the line, CSS class)
KINDS = (("vote@", "votes", "a"), ("guided@", "guided by the meta-RM", "b"), ("majority@", "majority", "c"))

ASIDE = 0.013  # of the width, that the bars of a further line are moved by, so that none hides another
LEVELS = ("greedy", "expected")  # one judgement, by its written and its expected scores


def vote_metrics(row: TableRow) -> dict[str, float]:
    """Returns the metrics of counted votes. `eval/accuracy@1` is that of greedy judgements, so one sampled vote has none."""
    names = {"vote@": "eval/accuracy@", "guided@": "eval/meta_accuracy@"}
    metrics = {}
    for name, figure in row.figures.items():
        kind, at, k = name.partition("@")
        if kind + at in names and k.isdigit() and k != "1":
            metrics[names[kind + at] + k] = figure.value
    return metrics


def value(figures: VoteFigures, name: str, field: str = "value") -> float | None:
    """Returns a number of a figure; None where there is none."""
    figure = figures.get(name)
    number = figure.get(field) if isinstance(figure, Mapping) else None
    return float(number) if finite(number) else None


def largest_k(figures: VoteFigures, kind: str) -> int | None:
    """Returns the largest k that a kind (`vote@`, `guided@`) was counted at; None where there is none."""
    ks = [k for k, _ in _points(figures, kind)]
    return int(max(ks)) if ks else None


def scaling_card(figures: VoteFigures, *, title: str, what: str) -> Markup | None:
    """Draw the chart of one policy, k on a logarithmic axis; None where no votes were counted."""
    known = [(kind, name, tone, counted) for kind, name, tone in KINDS if (counted := _points(figures, kind))]
    if not known:
        return None
    every = [math.log2(k) for _, _, _, counted in known for k, _ in counted]
    width = max(every) - min(every) or 1.0
    lines = [
        Line(
            name=name,
            metric=f"{kind}k",
            tone=tone,
            points=[(math.log2(k), y) for k, y in counted],
            intervals=_intervals(figures, kind, aside=place * ASIDE * width),
        )
        for place, (kind, name, tone, counted) in enumerate(known)
    ]
    levels = [Level(name=name, value=y) for name in LEVELS if (y := value(figures, name)) is not None]
    ks = sorted({x for line in lines for x, _ in line.points})
    axes = Axes(x_name="votes", show_x=lambda x: f"{2**x:.0f}", show_y=percent, low=0.0, high=1.0, x_named=False, x_at=ks)
    what = f"{what} From left to right: {', '.join(map(axes.show_x, ks))} votes; bars are 95 % intervals, side by side."
    body = [legend(lines, levels, percent), svg(lines, levels, axes)]
    return tag("figure", tag("h3", title), tag("p", what, class_="what"), *body, class_="card")


def _intervals(figures: VoteFigures, kind: str, *, aside: float) -> list[tuple[float, float, float]]:
    """Returns (log2 k + aside, low, high) of a kind where both ends are known."""
    ends = [
        (k, value(figures, f"{kind}{k:.0f}", "low"), value(figures, f"{kind}{k:.0f}", "high"))
        for k, _ in _points(figures, kind)
    ]
    return [(math.log2(k) + aside, low, high) for k, low, high in ends if low is not None and high is not None]


def _points(figures: VoteFigures, kind: str) -> list[Point]:
    """Returns (k, accuracy) of a kind, by ascending k."""
    return sorted(
        (float(name.removeprefix(kind)), y)
        for name in figures
        if re.fullmatch(re.escape(kind) + r"[1-9]\d*", name) and (y := value(figures, name)) is not None
    )
