"""Markup that is safe by construction, and the report's charts as inline SVG: no script, no network, no dependency.

Only `tag` makes markup, and it escapes every string that is not markup already. So text of a model or of a data set cannot
become a tag, an attribute or an invisible character, whoever forgets about it.

A chart is drawn in its own units (a card is `WIDTH` wide on a desktop column and on a phone alike, so text keeps its size);
colours are CSS classes, so that the page alone decides between light and dark.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26
MOST_POINTS = 600  # a longer line is thinned to the extremes of each bucket, which looks the same
MOST_COLUMNS = 160  # hover targets per chart

Point = tuple[float, float]


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: object) -> Markup:
    """An element. Plain strings are escaped; a child or an attribute that is None is left out. Attributes are named as
    Python allows: `class_` is class, `text_anchor` is text-anchor."""
    pairs = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    head = "".join(f' {key}="{escape(_plain(value))}"' for key, value in pairs if value is not None)
    body = "".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None)
    return Markup(f"<{name}{head}>{body}</{name}>" if name not in ("br", "hr") else f"<{name}{head}>")


def join(parts: Iterable[str]) -> Markup:
    """Parts one after the other, each escaped unless it is markup."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def escape(text: str) -> str:
    """HTML-escaped, with what would act unseen made visible: controls and bidi marks as [U+202E], lone surrogates as
    U+FFFD. Ordinary right-to-left text stays as it is; its element isolates it (`dir="auto"`)."""
    text = text.replace("\r\n", "\n")
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else _seen(c) for c in text))


def _seen(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Zs" or character in "\u200c\u200d":  # spaces, and the joiners that scripts and emoji need
        return character
    return "\ufffd" if category == "Cs" else f"[U+{ord(character):04X}]"


def _plain(value: object) -> str:
    """Attribute text; coordinates to two decimals, because nobody sees the third."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A measured line: points by ascending x, at least one, and a CSS class (`a` to `d`)."""

    name: str
    metric: str
    points: Sequence[Point]
    tone: str = "a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A horizontal line to compare with: a baseline, or a bound (`limit`)."""

    name: str
    value: float
    limit: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """How a chart reads: `show_x` and `show_y` write a value, `low` and `high` are always in view, and an x axis whose
    values carry their unit need not be named."""

    x_name: str
    show_x: Callable[[float], str]
    show_y: Callable[[float], str]
    low: float | None = None
    high: float | None = None
    whole_x: bool = True
    x_named: bool = True
    whole_y: bool = False


def svg(lines: Sequence[Line], levels: Sequence[Level], axes: Axes, *, smooth: bool = False) -> Markup:
    """The chart. With `smooth`, a long measured line is drawn faint under its running mean."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + [level.value for level in levels]
    x_ticks = ticks(min(xs), max(xs), 6, whole=axes.whole_x)
    ys += [edge for edge in (axes.low, axes.high) if edge is not None]
    y_ticks = ticks(min(ys), max(ys), 5, whole=axes.whole_y)
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_high = x_low + 1
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(point: Point) -> Point:
        x = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - (point[1] - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [*_grid(x_ticks, y_ticks, axes, place, x_low, x_high)]
    for level in levels:
        y = place((x_low, level.value))[1]
        kind = "limit" if level.limit else "level"
        parts.append(tag("path", class_=kind, d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", data_level=level.name))
    for line in lines:
        parts.extend(_line(line, place, smooth=smooth))
    parts.extend(_columns(lines, axes, place))
    label = f"{', '.join(line.name for line in lines)} over {axes.x_name}"
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def _grid(
    x_ticks: Sequence[float], y_ticks: Sequence[float], axes: Axes, place: Callable[[Point], Point], x_low: float, x_high: float
) -> Iterable[Markup]:
    """Fine horizontal rules with their values at the left; below, the x values and, at the end, the axis' name."""
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


def _line(line: Line, place: Callable[[Point], Point], *, smooth: bool) -> Iterable[Markup]:
    """A polyline with one vertex a point (thinned over MOST_POINTS), dots while they are few, and its running mean."""
    shown = thinned(line.points, MOST_POINTS)
    smooth = smooth and len(shown) >= 24
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, shown))
    weight = " faint" if smooth else " fine" if len(shown) > 60 else ""
    yield tag("polyline", class_=f"line {line.tone}{weight}", points=path, data_metric=line.metric)
    if smooth:
        mean = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, running_mean(shown, max(3, len(shown) // 12))))
        yield tag("polyline", class_=f"line {line.tone}", points=mean, data_mean=line.metric)
    elif len(shown) <= 24:
        yield from (tag("circle", class_=f"dot {line.tone}", cx=x, cy=y, r=2.5) for x, y in map(place, shown))


def _columns(lines: Sequence[Line], axes: Axes, place: Callable[[Point], Point]) -> Iterable[Markup]:
    """One invisible column per x: under the pointer it shows a cross-hair, dots on the lines, and their values."""
    at: dict[float, list[tuple[Line, float]]] = {}
    for line in lines:
        for x, y in line.points:
            at.setdefault(x, []).append((line, y))
    xs = sorted(at)
    xs = [xs[i * len(xs) // MOST_COLUMNS] for i in range(MOST_COLUMNS)] if len(xs) > MOST_COLUMNS else xs
    middles = [place((x, at[x][0][1]))[0] for x in xs]
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(middles)), WIDTH - RIGHT]
    for x, middle, left, right in zip(xs, middles, edges[:-1], edges[1:], strict=True):
        said = "\n".join(f"{line.name} {axes.show_y(y)}" for line, y in at[x])
        dots = [tag("circle", class_=f"dot {line.tone}", cx=middle, cy=place((x, y))[1], r=3.5) for line, y in at[x]]
        hair = tag("path", class_="hair", d=f"M{middle:.1f} {TOP}V{HEIGHT - BOTTOM}")
        target = tag("rect", x=float(left), y=TOP, width=max(0.0, right - left), height=HEIGHT - TOP - BOTTOM)
        title = tag("title", f"{axes.x_name} {axes.show_x(x)}\n{said}")
        yield tag("g", title, target, hair, *dots, class_="at")


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About `count` round numbers (steps of 1, 2, 2.5 or 5 times a power of ten) from at or below low to at or above high.

    >>> ticks(0.0, 0.93, 5)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(3, 4, 5, whole=True)
    [3.0, 4.0]
    """
    if high - low <= max(1e-12, 1e-9 * max(abs(low), abs(high))):  # one value, but for rounding
        half = 1.0 if whole or abs(low) > 10 or abs(low) < 1e-9 else 0.1 * abs(low)
        low, high = low - half, high + half
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * power >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[Point], most: int) -> Sequence[Point]:
    """At most `most` points: of each bucket the first, the lowest, the highest and the last, so no extreme is lost."""
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
    """Each point's mean with the width - 1 points before it (fewer at the start): it never looks ahead."""
    ys = [y for _, y in points]
    return [(x, math.fsum(ys[max(0, i + 1 - width) : i + 1]) / min(width, i + 1)) for i, (x, _) in enumerate(points)]


def _labels(values: Sequence[float], show: Callable[[float], str]) -> list[str]:
    """Tick labels: as the tooltips write them, unless that makes two of them alike."""
    texts = [show(value) for value in values]
    return texts if len(set(texts)) == len(texts) else [f"{value:g}" for value in values]
