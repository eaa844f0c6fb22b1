"""Where a run's groups and its time went: two bars of the report that always add up."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from launch.page.markup import Markup, join, tag
from launch.page.number_format import duration, number
from launch.page.run_summary import Summary


class Share(NamedTuple):
    """One piece of a bar."""

    name: str
    """As the page writes it."""
    value: float | None
    """Groups or seconds; None where it was not recorded."""
    meaning: str
    """A short explanation."""
    tone: str
    """CSS class of its colour."""


# (name in summary.json, meaning, CSS class)
OUTCOMES = (
    ("trained", "contributed a gradient", "t-a"),
    ("filtered", "equal rewards: no gradient", "t-c"),
    ("dropped", "too stale, or loss not finite", "t-b"),
    ("dead_letter", "unreadable", "t-bad"),
)
STAGES = (
    ("start", "cluster and engines", "t-d"),
    ("evaluate_before", "greedy, base policy", "t-c"),
    ("sample", "cold start: judgements", "t-b"),
    ("fine_tune", "cold start: fine-tuning", "t-a"),
    ("evaluate_cold_start", "greedy, cold start's policy", "t-c"),
    ("vote_before", "K votes, base policy", "t-d"),
    ("vote_cold_start", "K votes, cold start's policy", "t-d"),
    ("train", "online RL", "t-a"),
    ("evaluate_after", "greedy, trained policy", "t-b"),
    ("vote_after", "K votes, trained policy", "t-d"),
    ("count_votes", "the meta-RM scores the votes", "t-c"),
)
OUTSTANDING = Share("outstanding", None, "issued but not settled at the end", "t-d")
OTHER = Share("other", None, "checkpoints, report, shutdown", "t-rule")


def breakdown(summary: Summary) -> Markup:
    """Draw the groups by outcome and the time by stage."""
    groups = [Share(_words(name), summary.figure("groups", name), meaning, tone) for name, meaning, tone in OUTCOMES]
    seconds = [Share(_words(name), summary.figure("seconds", name), meaning, tone) for name, meaning, tone in STAGES]
    issued, total = summary.figure("groups", "issued"), summary.figure("seconds", "total")
    return tag(
        "section",
        tag(
            "div",
            _bar("Groups by outcome", "{} issued", groups, issued, OUTSTANDING, number),
            _bar("Time by stage", "{} in total", seconds, total, OTHER, duration),
            class_="pair",
        ),
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _bar(
    title: str, total_text: str, shares: Sequence[Share], total: float | None, rest: Share, show: Callable[[float], str]
) -> Markup:
    """Draw a bar of shares; what they leave of the total is shown as `rest`, so that the bar always adds up."""
    known = [(share, share.value) for share in shares if share.value is not None]
    if not known:
        return tag("div", tag("h2", title), tag("p", "Not recorded in this run."))
    left = (total or 0.0) - sum(value for _, value in known)
    if left > 1e-9 * (total or 0.0):
        known.append((rest, left))
    scale = sum(value for _, value in known) or 1.0
    bar = [
        tag("span", class_=share.tone, style=f"flex:{value / scale:.5f} 1 0", title=f"{share.name}: {show(value)}")
        for share, value in known
        if value > 0
    ]
    rows = [_row(share, show(value)) for share, value in known]
    text = "Total not recorded" if total is None else total_text.format(show(total))
    drawing = (tag("div", *bar, class_="stack"), tag("div", *rows, class_="shares"))
    return tag("div", tag("h2", title), tag("p", text), *drawing)


def _row(share: Share, value: str) -> Markup:
    cells = [tag("span", share.name), tag("span", value, class_="n"), tag("span", share.meaning, class_="why")]
    return join([tag("i", class_=share.tone), *cells])
