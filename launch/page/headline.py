"""The top of the report: the held-out accuracy beside its baselines, and the figures of the whole run.

Any figure may be missing, because a stage was off or the run ended early; the page then shows a note in its place.
"""

from collections.abc import Callable, Mapping, Sequence

from grm.statistics import wilson
from launch.monitoring.records import Record, finite, points
from launch.page.markup import Markup, join, tag
from launch.page.number_format import duration, number, percent, signed
from launch.page.run_summary import Summary


def headline(summary: Summary, records: Sequence[Record]) -> Markup:
    """Draw the one thing to know: held-out accuracy before and after training, beside what needs no training."""
    before, after = _accuracies(summary, records)
    title = tag("h1", "Held-out accuracy")
    left = tag(
        "div", title, _big_figures(before, after), tag("p", _headline_text(summary, before, after, _while_trained(records)))
    )
    rows = [
        ("online RL", after, "after"),
        ("cold start", summary.figure("accuracy", "cold_start"), "before"),
        ("base", before, "before"),
        ("longest answer wins", summary.figure("baselines", "longest_answer"), ""),
        ("shortest answer wins", summary.figure("baselines", "shortest_answer"), ""),
        ("chance", summary.figure("baselines", "chance"), ""),
    ]
    count = summary.figure("heldout", "rows")
    bars = [
        bar(name, value, tone, wilson(min(1.0, max(0.0, value)), count) if tone and count else None)
        for name, value, tone in rows
        if value is not None
    ]
    return tag("div", left, tag("div", *bars, class_="bars"), class_="headline")


def _accuracies(summary: Summary, records: Sequence[Record]) -> tuple[float | None, float | None]:
    """Returns the accuracy before and after training; the first and last logged one while there is no summary."""
    before, after = summary.figure("accuracy", "before"), summary.figure("accuracy", "after")
    if before is not None or after is not None:
        return before, after
    logged, _ = points(records, "eval/accuracy@1")
    return logged[0][1] if logged else None, logged[-1][1] if len(logged) > 1 else None


def _big_figures(before: float | None, after: float | None) -> Markup | None:
    if before is not None and after is not None:
        then, now = tag("span", *big_share(before), class_="then"), tag("span", *big_share(after), class_="now")
        return tag("div", then, tag("span", "→", class_="arrow"), now, class_="big")
    known = [value for value in (before, after) if value is not None]
    return tag("div", *big_share(known[0]), class_="big") if known else None


def big_share(share: float) -> list[str]:
    """Returns the parts of a share in large type."""
    return [f"{100 * share:.1f}", tag("small", "%")]


def _while_trained(records: Sequence[Record]) -> float | None:
    """Returns the accuracy that was measured last while the policy was trained; None where it was not."""
    logged = [accuracy for version, accuracy in points(records, "eval/accuracy@1")[0] if version > 0]
    return logged[-1] if logged else None


def _headline_text(summary: Summary, before: float | None, after: float | None, meanwhile: float | None) -> str:
    """Returns one or two sentences under the headline."""
    rows = summary.figure("heldout", "rows")
    both = any(summary.figure("consistency", when) is not None for when in ("before", "after"))
    judged = "judged greedily in both orders" if both else "one greedy judgement each"
    where = f" on {number(rows)} held-out preferences{_sizes(summary)}, {judged}" if rows is not None else ""
    if before is None and after is None:
        return "Accuracy was not measured: evaluation was off, or the run ended before it."
    if after is None:
        if meanwhile is not None:
            return f"Measured before training{where}. The last measurement while it was trained was {percent(meanwhile)}."
        return f"Measured before training{where}. It was not measured again."
    if before is None:
        return f"Measured after training{where}. It was not measured before."
    change = f"{100 * (after - before):+.1f}".replace("-", "\u2212")
    return f"{change} points{where}." + (" Thin lines mark 95 % intervals." if rows else "")


def _sizes(summary: Summary) -> str:
    """Returns how many responses the held-out preferences have: one number, or a range."""
    heldout = summary.values.get("heldout")
    n = heldout.get("n") if isinstance(heldout, Mapping) else None
    sizes = [f"{size:.0f}" for size in (n if isinstance(n, list) else [n]) if finite(size)]
    text = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "".join(sizes)
    return f" of {text} response{'s' * (text != '1')}" if text else ""


def bar(name: str, value: float, tone: str, interval: tuple[float, float] | None = None) -> Markup:
    """Draw a share as a bar.

    Args:
        name: What it is of.
        value: The share, 0..1.
        tone: `after`, `before`, or "" for what is beside them.
        interval: Its ends, 0..1, drawn as a thin line.
    """
    share = min(1.0, max(0.0, value))
    marks = [tag("span", class_=f"fill {tone}".strip(), style=f"width:{100 * share:.2f}%")]
    if interval:
        low, high = interval
        marks.append(tag("span", class_="range", style=f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"))
    strong = " strong" if tone == "after" else ""
    return join(
        [
            tag("span", name, class_="name" + strong),
            tag("span", *marks, class_="track"),
            tag("span", percent(value), class_="value" + strong),
        ]
    )


def facts(summary: Summary) -> Markup:
    """Draw the figures of the whole run, each with one to compare it with."""
    largest, bound = summary.figure("staleness", "max"), summary.figure("staleness", "bound")
    broken = largest is not None and bound is not None and largest > bound
    bound_text = None if bound is None else f"{'ABOVE' if broken else 'within'} the bound of {number(bound)}"
    tokens, train_s = summary.figure("tokens"), summary.figure("seconds", "train")
    rate = f"{number(tokens / train_s)} per second of training" if tokens is not None and train_s else None

    def beside(text: str, show: Callable[[float], str], *path: str) -> str | None:
        value = summary.figure(*path)
        return None if value is None else text.format(show(value))

    auc, idle = summary.figure("meta_rm", "auc"), summary.figure("idle", "learner")
    steps, total = summary.figure("steps"), summary.figure("seconds", "total")
    cells = [
        _fact("Parse rate", _change(summary, "parse_rate", "before", "after", percent)),
        _fact("Reward, first to last tenth", _change(summary, "reward", "first", "last", signed)),
        _fact("Maximum staleness", largest, number, bound_text, bad=broken),
        _fact("Meta-RM AUC", auc, number, beside("{} judgements", number, "meta_rm", "examples")),
        _fact("Learner idle", idle, percent, beside("rollout actors {}", percent, "idle", "rollout")),
        _fact("Optimiser steps", steps, number, beside("{} groups trained", number, "groups", "trained")),
        _fact("Tokens sampled", tokens, number, rate),
        _fact("Total time", total, duration, beside("training {}", duration, "seconds", "train")),
    ]
    return tag("dl", *cells, class_="facts")


def _fact(
    name: str, value: float | str | None, show: Callable[[float], str] = number, more: str | None = None, *, bad: bool = False
) -> Markup:
    if value is None:
        return tag("div", tag("dt", name), tag("dd", "not recorded", class_="none"))
    text = value if isinstance(value, str) else show(value)
    beside = tag("span", more, class_="more") if more else None
    return tag("div", tag("dt", name), tag("dd", text, beside, class_="bad" if bad else None))


def _change(summary: Summary, name: str, first: str, last: str, show: Callable[[float], str]) -> str | None:
    ends = [summary.figure(name, first), summary.figure(name, last)]
    return None if ends == [None, None] else " → ".join("—" if end is None else show(end) for end in ends)
