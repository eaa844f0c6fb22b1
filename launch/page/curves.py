"""From a run's records to the curves of the report."""

import re
from collections.abc import Callable, Sequence

from launch.monitoring.metrics import ELAPSED, metric
from launch.monitoring.records import Record, points
from launch.page.cards import Card, Trace
from launch.page.charts import Axes, Level, Line, svg
from launch.page.markup import Markup, tag
from launch.page.number_format import number

TONES = "abcd"


def card_figure(card: Card, records: Sequence[Record], level_of: Callable[..., float | None]) -> Markup | None:
    """Draw a card.

    Args:
        card: what to draw.
        records: the run's metrics.
        level_of: reads a path of summary.json.

    Returns:
        The figure; None when the run recorded nothing of it.
    """
    lines, not_finite, axis = _lines(card, records)
    if not lines and not not_finite:
        return None
    levels = []
    for reference in card.references:
        value = reference.source if isinstance(reference.source, float) else level_of(*reference.source)
        if value is not None:
            levels.append(Level(name=reference.name, value=value, limit=reference.limit))
    body = [legend(lines, levels, card.show)]
    if lines:
        scaled, axes = _axes(card, lines, axis)
        body.append(svg(scaled, levels, axes, smooth=card.smooth))
    if not_finite:
        values = f"{not_finite} value{'s' * (not_finite != 1)}"
        body.append(tag("p", f"{values} not finite (NaN or infinite)", class_="lost"))
    return tag("figure", tag("h3", card.title), tag("p", card.what, class_="what"), *body, class_="card")


def _lines(card: Card, records: Sequence[Record]) -> tuple[list[Line], int, str]:
    """Returns the card's lines, how many of their values were not finite, and their axis."""
    lines, not_finite, axis = list[Line](), 0, ""
    for trace in card.traces:
        for metric_name, name in _logged(records, trace):
            measured, missing = points(records, metric_name)
            not_finite += missing
            if measured:
                axis = metric(metric_name).axis
                values = [(x, trace.of(y)) for x, y in measured]
                lines.append(Line(name=name, metric=metric_name, points=values, tone=TONES[min(len(lines), 3)]))
    return lines, not_finite, axis


def _logged(records: Sequence[Record], trace: Trace) -> list[tuple[str, str]]:
    """Returns (metric, name) of a trace: itself, or one for every k that was logged, by ascending k."""
    if not trace.metric.endswith("@k"):
        return [(trace.metric, trace.name)]
    stem = trace.metric.removesuffix("k")
    suffixes = {name.removeprefix(stem) for record in records for name in record["metrics"] if name.startswith(stem)}
    ks = sorted(int(suffix) for suffix in suffixes if re.fullmatch(r"[1-9]\d*", suffix))
    return [(f"{stem}{k}", f"{trace.name} {k}") for k in ks]


def _axes(card: Card, lines: Sequence[Line], axis: str) -> tuple[list[Line], Axes]:
    """Returns lines and axes in the unit to read x in: policy versions, meta-RM steps, or seconds, minutes, hours."""

    def axes(name: str, show_x: Callable[[float], str], *, whole_x: bool) -> Axes:
        return Axes(
            x_name=name,
            show_x=show_x,
            show_y=card.show,
            low=card.low,
            high=card.high,
            whole_x=whole_x,
            x_named=whole_x,
            whole_y=card.whole,
        )

    if axis != ELAPSED:
        return list(lines), axes("meta-RM step" if axis == "meta_rm/step" else "version", number, whole_x=True)
    longest = max(line.points[-1][0] for line in lines)
    unit, seconds = ("h", 3600) if longest > 3 * 3600 else ("min", 60) if longest > 180 else ("s", 1)
    scaled = [
        Line(name=line.name, metric=line.metric, tone=line.tone, points=[(x / seconds, y) for x, y in line.points])
        for line in lines
    ]
    return scaled, axes("after", lambda x: f"{x:.3g}\u00a0{unit}", whole_x=False)


def legend(lines: Sequence[Line], levels: Sequence[Level], show: Callable[[float], str]) -> Markup:
    """Returns the legend, with the last value of every line beside its name."""
    keys = [tag("span", tag("i", class_=line.tone), f"{line.name} ", tag("b", show(line.points[-1][1]))) for line in lines]
    keys += [
        tag("span", tag("i", class_="limit" if level.limit else "level"), f"{level.name} {show(level.value)}")
        for level in levels
    ]
    return tag("div", *keys, class_="keys")
