"""The report's figures of a whole run: the headline, the facts under it, groups by outcome and seconds by stage.

Every figure may be missing, because a part was off or the run ended early; then the page says so in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from grm.statistics import wilson
from launch.page.charts import Markup, join, tag
from launch.page.curves import Record, finite, number, percent, points, signed


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """summary.json of a run, read leniently."""

    values: Mapping[str, Any]

    def figure(self, *path: str) -> float | None:
        """A number of the summary; None where there is none."""
        value: Any = self.values
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return float(value) if finite(value) else None

    def text(self, name: str) -> str:
        """A text of the summary; empty where there is none."""
        value = self.values.get(name)
        return "" if value is None else str(value)


def headline(summary: Summary, records: Sequence[Record]) -> Markup:
    """The one thing to know: held-out accuracy before and after, beside what needs no training."""
    before, after = summary.figure("accuracy", "before"), summary.figure("accuracy", "after")
    if before is None and after is None:
        measured, _ = points(records, "eval/accuracy@1")
        before = measured[0][1] if measured else None
        after = measured[-1][1] if len(measured) > 1 else None
    known = [value for value in (before, after) if value is not None]
    headline: Markup | None
    if before is not None and after is not None:
        then, now = tag("span", *_big(before), class_="then"), tag("span", *_big(after), class_="now")
        headline = tag("div", then, tag("span", "→", class_="arrow"), now, class_="big")
    else:
        headline = tag("div", *_big(known[0]), class_="big") if known else None
    left = tag("div", tag("h1", "Held-out accuracy"), headline, tag("p", _summary_line(summary, before, after)))
    rows = [
        ("online RL", after, "after"),
        ("cold start", summary.figure("accuracy", "cold_start"), "before"),
        ("base", before, "before"),
        ("longest answer wins", summary.figure("baselines", "longest_answer"), ""),
        ("shortest answer wins", summary.figure("baselines", "shortest_answer"), ""),
        ("chance", summary.figure("baselines", "chance"), ""),
    ]
    bars = [_bar(name, value, tone, summary.figure("heldout", "rows")) for name, value, tone in rows if value is not None]
    return tag("div", left, tag("div", *bars, class_="bars"), class_="headline")


def _big(share: float) -> list[str]:
    return [f"{100 * share:.1f}", tag("small", "%")]


def _summary_line(summary: Summary, before: float | None, after: float | None) -> str:
    """One or two sentences under the headline."""
    rows = summary.figure("heldout", "rows")
    where = f" on {number(rows)} held-out preferences{_sizes(summary)}, one greedy judgement each" if rows is not None else ""
    if before is None and after is None:
        return "Accuracy was not measured: evaluation was off, or the run ended before it."
    if after is None:
        return f"Before training{where}. It was not measured again."
    if before is None:
        return f"After training{where}. It was not measured before training."
    change = f"{100 * (after - before):+.1f}".replace("-", "\u2212")
    return f"{change} points{where}." + (" Lines mark the 95 % interval." if rows else "")


def _sizes(summary: Summary) -> str:
    """How many responses the held-out preferences have: one number, or a list of them."""
    heldout = summary.values.get("heldout")
    given = heldout.get("n") if isinstance(heldout, Mapping) else None
    sizes = [f"{size:.0f}" for size in (given if isinstance(given, list) else [given]) if finite(size)]
    many = " to ".join((sizes[0], sizes[-1])) if len(sizes) > 1 else "".join(sizes)
    return f" of {many} response{'s' * (many != '1')}" if many else ""


def _bar(name: str, value: float, tone: str, count: float | None) -> Markup:
    share = min(1.0, max(0.0, value))
    parts = [tag("span", class_=f"fill {tone}".strip(), style=f"width:{100 * share:.2f}%")]
    if tone and count:
        low, high = wilson(share, count)
        parts.append(tag("span", class_="range", style=f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"))
    strong = " strong" if tone == "after" else ""
    return join(
        [
            tag("span", name, class_="name" + strong),
            tag("span", *parts, class_="track"),
            tag("span", percent(value), class_="value" + strong),
        ]
    )


def facts(summary: Summary) -> Markup:
    """Figures of the whole run, each with what it is to be read beside."""
    most, bound = summary.figure("staleness", "max"), summary.figure("staleness", "bound")
    broken = most is not None and bound is not None and most > bound
    held = None if bound is None else f"{'ABOVE' if broken else 'within'} the bound of {number(bound)}"
    tokens, trained_s = summary.figure("tokens"), summary.figure("seconds", "train")
    rate = tokens / trained_s if tokens is not None and trained_s else None

    def beside(text: str, show: Callable[[float], str], *path: str) -> str | None:
        value = summary.figure(*path)
        return None if value is None else text.format(show(value))

    meta, idle = summary.figure("meta_rm", "auc"), summary.figure("idle", "learner")
    steps, total = summary.figure("steps"), summary.figure("seconds", "total")
    cells = [
        _fact("Parse rate", _change(summary, "parse_rate", "before", "after", percent)),
        _fact("Reward of a step", _change(summary, "reward", "first", "last", signed)),
        _fact("Greatest staleness", most, number, held, bad=broken),
        _fact("Meta-RM AUC", meta, number, beside("{} judgements", number, "meta_rm", "examples")),
        _fact("Learner idle", idle, percent, beside("rollout {}", percent, "idle", "rollout")),
        _fact("Optimiser steps", steps, number, beside("{} groups trained", number, "groups", "trained")),
        _fact("Tokens sampled", tokens, number, None if rate is None else f"{number(rate)} per second of training"),
        _fact("Whole run", total, duration, beside("training {}", duration, "seconds", "train")),
    ]
    return tag("dl", *cells, class_="facts")


def _fact(
    name: str, value: float | str | None, show: Callable[[float], str] = number, more: str | None = None, *, bad: bool = False
) -> Markup:
    if value is None:
        return tag("div", tag("dt", name), tag("dd", "not recorded", class_="none"))
    said = value if isinstance(value, str) else show(value)
    beside = tag("span", more, class_="more") if more else None
    return tag("div", tag("dt", name), tag("dd", said, beside, class_="bad" if bad else None))


def _change(summary: Summary, name: str, first: str, last: str, show: Callable[[float], str]) -> str | None:
    ends = [summary.figure(name, first), summary.figure(name, last)]
    return None if ends == [None, None] else " → ".join("—" if end is None else show(end) for end in ends)


def duration(seconds: float) -> str:
    """8.2 -> 8.2 s, 461 -> 7 min 41 s, 7500 -> 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours}\u00a0h {minutes % 60}\u00a0min" if hours else f"{minutes}\u00a0min {int(seconds % 60)}\u00a0s"


def breakdown(summary: Summary) -> Markup:
    """Groups by outcome and seconds by stage, each as one bar and its parts."""
    outcomes = [
        ("trained", "a gradient came of them"),
        ("filtered", "all completions alike: no gradient"),
        ("dropped", "too stale"),
        ("dead_letter", "no worker could read them"),
    ]
    stages = [
        ("start", "cluster", "t-d"),
        ("evaluate_before", "held out, base policy", "t-c"),
        ("sample", "cold start: judgements", "t-b"),
        ("fine_tune", "cold start: learning", "t-a"),
        ("evaluate_cold_start", "held out, greedy", "t-c"),
        ("vote_before", "held out, K votes of the base", "t-d"),
        ("vote_cold_start", "held out, K votes", "t-d"),
        ("train", "online RL", "t-a"),
        ("evaluate_after", "held out, trained policy", "t-b"),
        ("vote_after", "held out, K votes", "t-d"),
        ("count_votes", "the meta-RM scores them", "t-c"),
    ]
    groups = [
        BreakdownItem(name.replace("_", " "), summary.figure("groups", name), why, tone)
        for (name, why), tone in zip(outcomes, ("t-a", "t-c", "t-b", "t-bad"), strict=True)
    ]
    seconds = [BreakdownItem(name.replace("_", " "), summary.figure("seconds", name), why, tone) for name, why, tone in stages]
    outstanding = BreakdownItem("outstanding", None, "issued, not settled at the end", "t-d")
    other = BreakdownItem("other", None, "engines, checkpoints, report, shutdown", "t-rule")
    return tag(
        "section",
        tag(
            "div",
            _share("Groups by outcome", "issued", groups, summary.figure("groups", "issued"), outstanding, number),
            _share("Seconds by stage", "in all", seconds, summary.figure("seconds", "total"), other, duration),
            class_="pair",
        ),
    )


class BreakdownItem(NamedTuple):
    """A share of a bar; `tone` is its colour's CSS class."""

    name: str
    value: float | None
    why: str
    tone: str


def _share(
    title: str,
    whole: str,
    parts: Sequence[BreakdownItem],
    total: float | None,
    rest: BreakdownItem,
    show: Callable[[float], str],
) -> Markup:
    """A bar of parts; what they leave of the total is shown as `rest`, so that the bar always adds up."""
    known = [(part, part.value) for part in parts if part.value is not None]
    if not known:
        return tag("div", tag("h2", title), tag("p", "Not recorded in this run."))
    left = (total or 0.0) - sum(value for _, value in known)
    if left > 1e-9 * (total or 0.0):
        known.append((rest, left))
    scale = sum(value for _, value in known) or 1.0
    bar = [
        tag("span", class_=part.tone, style=f"flex:{value / scale:.5f} 1 0", title=f"{part.name}: {show(value)}")
        for part, value in known
        if value > 0
    ]
    rows = [
        join(
            [
                tag("i", class_=part.tone),
                tag("span", part.name),
                tag("span", show(value), class_="n"),
                tag("span", part.why, class_="why"),
            ]
        )
        for part, value in known
    ]
    of = "Total not recorded" if total is None else f"{show(total)} {whole}"
    drawn = (tag("div", *bar, class_="stack"), tag("div", *rows, class_="parts"))
    return tag("div", tag("h2", title), tag("p", of), *drawn)
