"""Which curves the report shows, and how a run's records become their points.

A card names metrics of `launch/tracking.py`, so a chart cannot ask for a figure that nothing logs (a test checks it).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from launch.monitoring.metrics import ELAPSED, metric
from launch.page.charts import Axes, Level, Line, Markup, Point, svg, tag

Record = Mapping[str, Any]
TONES = "abcd"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One line of a card. A metric that ends in @k stands for every k that was logged."""

    metric: str
    name: str
    of: Callable[[float], float] = float


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One chart: `levels` are (name, path into the summary, is it a limit) or a constant in place of the path."""

    title: str
    what: str
    traces: tuple[Trace, ...]
    show: Callable[[float], str]
    low: float | None = 0.0
    high: float | None = None
    smooth: bool = False
    whole: bool = False
    levels: tuple[tuple[str, tuple[str, str] | float, bool], ...] = ()


def percent(value: float) -> str:
    """0.6124 -> 61.2 %"""
    return f"{100 * value:.1f}".removesuffix(".0").replace("-", "\u2212") + "\u00a0%"


def number(value: float) -> str:
    """Three digits that count, thousands apart: 0.01234 -> 0.0123, 12345.6 -> 12 346."""
    if abs(value) >= 1000:
        text = f"{value:,.0f}".replace(",", "\u202f")
    else:
        text = f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
    return text.replace("-", "\u2212")


def signed(value: float) -> str:
    """0.4 -> +0.40"""
    return f"{value:+.2f}".replace("-", "\u2212") if value else "0"


CARDS = (
    Card(
        title="Held-out accuracy",
        what="BreakdownItem of held-out preferences judged right, as training went on.",
        traces=(Trace(metric="eval/accuracy@k", name="k ="),),
        show=percent,
        low=None,
        levels=(("chance", ("baselines", "chance"), False), ("longest answer", ("baselines", "longest_answer"), False)),
    ),
    Card(
        title="Reward",
        what="Mean of all completions that arrived for a step: +1 right, \u22121 wrong or unreadable.",
        traces=(Trace(metric="reward/mean", name="reward"),),
        show=signed,
        low=None,
        smooth=True,
    ),
    Card(
        title="Parse rate",
        what="Completions that hold a readable judgement.",
        show=percent,
        low=None,
        high=1.0,
        traces=(
            Trace(metric="parse/failure_rate", name="in training", of=lambda rate: 1 - rate),
            Trace(metric="eval/parse_rate@k", name="held out, k ="),
        ),
    ),
    Card(
        title="Staleness",
        what="Policy versions between a group's issue and its training.",
        show=number,
        whole=True,
        traces=(Trace(metric="staleness/max", name="max"), Trace(metric="staleness/mean", name="mean")),
        levels=(("bound", ("staleness", "bound"), True),),
    ),
    Card(
        title="Idle time",
        what="BreakdownItem of time without work: both low is what asynchrony is for.",
        show=percent,
        smooth=True,
        traces=(Trace(metric="idle/learner_ratio", name="learner"), Trace(metric="idle/rollout_ratio", name="rollout")),
    ),
    Card(
        title="Meta-RM",
        what="Does it know which judgements are right? Measured on each batch before training on it.",
        traces=(Trace(metric="meta_rm/auc", name="AUC"), Trace(metric="meta_rm/accuracy", name="accuracy")),
        show=number,
        low=None,
        high=1.0,
        smooth=True,
        levels=(("chance", 0.5, False),),
    ),
    Card(
        title="Distance to the reference",
        what="k3 estimate of KL(policy, reference) per token, before \u03b2.",
        traces=(Trace(metric="loss/kl", name="KL"),),
        show=number,
    ),
    Card(
        title="Gradient norm",
        what="Global norm before clipping.",
        show=number,
        smooth=True,
        traces=(Trace(metric="optim/grad_norm", name="norm"),),
    ),
    Card(
        title="Throughput",
        what="Tokens sampled per second by all rollout actors.",
        show=number,
        smooth=True,
        traces=(Trace(metric="throughput/tokens_per_s", name="tokens/s"),),
    ),
    Card(
        title="Groups without a gradient",
        what="BreakdownItem whose completions were all right, or all wrong: nothing to prefer.",
        traces=(Trace(metric="reward/solved_all", name="all right"), Trace(metric="reward/solved_none", name="all wrong")),
        show=percent,
        smooth=True,
    ),
    Card(
        title="Off-policy drift",
        what="What importance weights of older tokens cost: 1 \u2212 ESS, and tokens cut.",
        traces=(
            Trace(metric="off_policy/ess", name="sample lost", of=lambda share: 1 - share),
            Trace(metric="off_policy/tis_truncated_fraction", name="truncated"),
            Trace(metric="off_policy/clip_fraction", name="clipped"),
        ),
        show=percent,
        smooth=True,
    ),
    Card(
        title="A step's seconds",
        what="What the learner's time went to.",
        show=number,
        smooth=True,
        traces=(
            Trace(metric="time/wait_for_experience_s", name="waiting"),
            Trace(metric="time/train_s", name="training"),
            Trace(metric="time/publish_s", name="publishing"),
        ),
    ),
)


def points(records: Sequence[Record], name: str) -> tuple[list[Point], int]:
    """A metric over its axis by ascending x, and how many of its values were not finite (null).

    A learner that came back from a checkpoint counts its versions again: what it had logged beyond the checkpoint is not
    behind the surviving weights, so a point whose x was reached before replaces all points from there on.
    """
    axis, found, lost = metric(name).axis, list[Point](), 0
    for record in records:
        values = record["metrics"]
        if name not in values:
            continue
        x = record["elapsed_s"] if axis == ELAPSED else values.get(axis)
        while found and finite(x) and found[-1][0] >= x:
            found.pop()
        if finite(x) and finite(values[name]):
            found.append((float(x), float(values[name])))
        else:
            lost += 1
    return found, lost


def finite(value: object) -> TypeGuard[float]:
    """Whether a value read from JSON is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def named(records: Sequence[Record], trace: Trace) -> list[tuple[str, str]]:
    """(metric, name) of a trace: itself, or one for every k that was logged, by ascending k."""
    if not trace.metric.endswith("@k"):
        return [(trace.metric, trace.name)]
    stem = trace.metric.removesuffix("k")
    seen = {name for record in records for name in record["metrics"] if name.startswith(stem)}
    ks = sorted(int(name.removeprefix(stem)) for name in seen if re.fullmatch(r"[1-9]\d*", name.removeprefix(stem)))
    return [(f"{stem}{k}", f"{trace.name} {k}") for k in ks]


def drawn(card: Card, records: Sequence[Record], level_of: Callable[..., float | None]) -> Markup | None:
    """The card's figure; None when the run recorded nothing of it. `level_of` reads a path of the summary."""
    lines, lost, axis = list[Line](), 0, ""
    for trace in card.traces:
        for name, said in named(records, trace):
            found, missing = points(records, name)
            lost += missing
            if found:
                axis = metric(name).axis
                values = [(x, trace.of(y)) for x, y in found]
                lines.append(Line(name=said, metric=name, points=values, tone=TONES[min(len(lines), 3)]))
    if not lines and not lost:
        return None
    levels = []
    for name, source, limit in card.levels:
        value = source if isinstance(source, float) else level_of(*source)
        if value is not None:
            levels.append(Level(name=name, value=value, limit=limit))
    body = [_keys(lines, levels, card.show)]
    if lines:
        scaled, axes = _axes(card, lines, axis)
        body.append(svg(scaled, levels, axes, smooth=card.smooth))
    if lost:
        body.append(tag("p", f"{lost} value{'s' * (lost != 1)} not finite (NaN or infinite)", class_="lost"))
    return tag("figure", tag("h3", card.title), tag("p", card.what, class_="what"), *body, class_="card")


def _axes(card: Card, lines: Sequence[Line], axis: str) -> tuple[list[Line], Axes]:
    """Lines and axes in the unit to read x in: policy versions, meta-RM steps, or seconds, minutes, hours."""

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


def _keys(lines: Sequence[Line], levels: Sequence[Level], show: Callable[[float], str]) -> Markup:
    """The legend, with the last value of every line beside its name."""
    keys = [tag("span", tag("i", class_=line.tone), f"{line.name} ", tag("b", show(line.points[-1][1]))) for line in lines]
    keys += [
        tag("span", tag("i", class_="limit" if level.limit else "level"), f"{level.name} {show(level.value)}")
        for level in levels
    ]
    return tag("div", *keys, class_="keys")
