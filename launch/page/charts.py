"""The report's charts as inline SVG: no script, no network, no dependency.

A chart is drawn in its own units. A card is about `WIDTH` pixels wide, on a desktop column as on a phone, so text keeps its
size. Colours are CSS classes, so the page alone decides between light and dark.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from launch.monitoring.records import Point
from launch.page.markup import Markup, tag

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26  # margins around the plot
MOST_POINTS = 600  # a longer line is thinned to the extremes of each bucket, which looks the same
MOST_COLUMNS = 160  # hover targets per chart
FEW_POINTS = 24  # up to here a line has dots; from here on it can be smoothed


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A measured line."""

    name: str
    """Name in the legend and in the tooltips."""
    metric: str
    """Name of the metric, kept as a data attribute."""
    points: Sequence[Point]
    """At least one point, by ascending x."""
    tone: str = "a"
    """CSS class of its colour, `a` to `d`."""
    intervals: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) of the points that have an interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A horizontal line to compare with."""

    name: str
    """Name in the legend."""
    value: float
    """Its y."""
    limit: bool = False
    """Whether it is a bound, and not a baseline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """How a chart reads."""

    x_name: str
    """Name of the x axis."""
    show_x: Callable[[float], str]
    """Writes a value of the x axis."""
    show_y: Callable[[float], str]
    """Writes a value of the y axis."""
    low: float | None = None
    """A value of the y axis that is always in view."""
    high: float | None = None
    """Another one."""
    whole_x: bool = True
    """Whether the ticks of the x axis are whole numbers."""
    x_named: bool = True
    """Whether the name of the x axis is written; values that carry their unit need none."""
    whole_y: bool = False
    """Whether the ticks of the y axis are whole numbers."""
    x_at: Sequence[float] = ()
    """Where the ticks of the x axis are; (): at round numbers."""


Place = Callable[[Point], Point]  # from a chart's values to its drawing units


def svg(lines: Sequence[Line], levels: Sequence[Level], axes: Axes, *, smooth: bool = False) -> Markup:
    """Draw the chart; with `smooth`, a long line is drawn faint under its running mean."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + [level.value for level in levels]
    ys += [edge for line in lines for _, *edges in line.intervals for edge in edges]
    x_ticks = axes.x_at or ticks(min(xs), max(xs), 6, whole=axes.whole_x)
    ys += [edge for edge in (axes.low, axes.high) if edge is not None]
    y_ticks = ticks(min(ys), max(ys), 5, whole=axes.whole_y)
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_high = x_low + 1
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(point: Point) -> Point:
        x = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - (point[1] - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    elements = [*_grid(x_ticks, y_ticks, axes, place, x_low, x_high)]
    for level in levels:
        y = place((x_low, level.value))[1]
        kind = "limit" if level.limit else "level"
        elements.append(tag("path", class_=kind, d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", data_level=level.name))
    for line in lines:
        elements.extend(_line(line, place, smooth=smooth))
    elements.extend(_tooltips(lines, axes, place))
    label = f"{', '.join(line.name for line in lines)} over {axes.x_name}"
    return tag("svg", *elements, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def _grid(
    x_ticks: Sequence[float], y_ticks: Sequence[float], axes: Axes, place: Place, x_low: float, x_high: float
) -> Iterable[Markup]:
    """Draw horizontal rules with their values on the left; below, the x values, and the axis' name at the end."""
    y_text, x_text = _labels(y_ticks, axes.show_y), _labels(x_ticks, axes.show_x)
    for value, text in zip(y_ticks, y_text, strict=True):
        y = place((x_low, value))[1]
        yield tag("path", class_="rule", d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}")
        yield tag("text", text, x=LEFT - 8, y=y + 4, text_anchor="end")
    end = WIDTH - RIGHT
    if axes.x_named:
        yield tag("text", axes.x_name, x=end, y=HEIGHT - 8, text_anchor="end")
        end -= 6 * len(axes.x_name) + 14
    for value, text in zip(x_ticks, x_text, strict=True):
        x = place((value, y_ticks[0]))[0]
        if x_low <= value <= x_high and x <= end:
            anchor = "start" if x < LEFT + 6 else "middle" if x < WIDTH - RIGHT - 12 else "end"
            yield tag("text", text, x=x, y=HEIGHT - 8, text_anchor=anchor)


def _line(line: Line, place: Place, *, smooth: bool) -> Iterable[Markup]:
    """Draw a polyline with a vertex for each point, dots while they are few, or its running mean over it."""
    shown = thinned(line.points, MOST_POINTS)
    smooth = smooth and len(shown) >= FEW_POINTS
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, shown))
    weight = " faint" if smooth else " fine" if len(shown) > 60 else ""
    for x, low, high in line.intervals:
        (across, top), (_, bottom) = place((x, high)), place((x, low))
        yield tag(
            "path", class_=f"line {line.tone} faint", d=f"M{across:.1f} {top:.1f}V{bottom:.1f}", data_interval=line.metric
        )
    yield tag("polyline", class_=f"line {line.tone}{weight}", points=path, data_metric=line.metric)
    if smooth:
        mean = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, running_mean(shown, max(3, len(shown) // 12))))
        yield tag("polyline", class_=f"line {line.tone}", points=mean, data_mean=line.metric)
    elif len(shown) <= FEW_POINTS:
        yield from (tag("circle", class_=f"dot {line.tone}", cx=x, cy=y, r=2.5) for x, y in map(place, shown))


def _tooltips(lines: Sequence[Line], axes: Axes, place: Place) -> Iterable[Markup]:
    """Draw one invisible column per x; under the pointer it shows a cross-hair, dots on the lines, and their values."""
    at: dict[float, list[tuple[Line, float]]] = {}
    for line in lines:
        for x, y in line.points:
            at.setdefault(x, []).append((line, y))
    xs = sorted(at)
    xs = [xs[i * len(xs) // MOST_COLUMNS] for i in range(MOST_COLUMNS)] if len(xs) > MOST_COLUMNS else xs
    middles = [place((x, at[x][0][1]))[0] for x in xs]
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(middles)), WIDTH - RIGHT]
    for x, middle, left, right in zip(xs, middles, edges[:-1], edges[1:], strict=True):
        values = "\n".join(f"{line.name} {axes.show_y(y)}" for line, y in at[x])
        dots = [tag("circle", class_=f"dot {line.tone}", cx=middle, cy=place((x, y))[1], r=3.5) for line, y in at[x]]
        hair = tag("path", class_="hair", d=f"M{middle:.1f} {TOP}V{HEIGHT - BOTTOM}")
        target = tag("rect", x=float(left), y=TOP, width=max(0.0, right - left), height=HEIGHT - TOP - BOTTOM)
        title = tag("title", f"{axes.x_name} {axes.show_x(x)}\n{values}")
        yield tag("g", title, target, hair, *dots, class_="at")


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Returns about `count` round numbers that cover low to high, in steps of 1, 2, 2.5 or 5 times a power of ten.

    >>> ticks(0.0, 0.93, 5)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(3, 4, 5, whole=True)
    [3.0, 4.0]
    >>> ticks(0.0, 0.0, 5)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if high - low <= max(1e-12, 1e-9 * max(abs(low), abs(high))):  # a single value, up to rounding
        half = 1.0 if whole or abs(low) > 10 or abs(low) < 1e-9 else 0.1 * abs(low)
        low, high = (low - half if low < 0 else max(0.0, low - half)), high + half  # no share below 0 %
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * power >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[Point], most: int) -> Sequence[Point]:
    """Returns at most `most` points: the first, lowest, highest and last of each bucket, so no extreme is lost."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / (most // 4))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        by_y = sorted(range(len(bucket)), key=lambda i: bucket[i][1])
        kept.extend(bucket[i] for i in sorted({0, by_y[0], by_y[-1], len(bucket) - 1}))
    return kept


def running_mean(points: Sequence[Point], width: int) -> list[Point]:
    """Returns each point's mean with the width - 1 points before it, fewer at the start; it never looks ahead."""
    ys = [y for _, y in points]
    return [(x, math.fsum(ys[max(0, i + 1 - width) : i + 1]) / min(width, i + 1)) for i, (x, _) in enumerate(points)]


def _labels(values: Sequence[float], show: Callable[[float], str]) -> list[str]:
    """Returns the tick labels: as the tooltips write them, unless two would be alike."""
    texts = [show(value) for value in values]
    return texts if len(set(texts)) == len(texts) else [f"{value:g}" for value in values]
