"""The report's table of the method's stages: a row for each policy, and the scaling curve of each one that voted.

base ─ cold start ─ online RL: greedy, K votes, K votes guided by the meta-RM
"""

from collections.abc import Iterable, Mapping
from typing import Any

from grm.statistics import wilson
from launch.page.markup import Markup, tag
from launch.page.number_format import number, percent
from launch.page.run_summary import Summary
from launch.page.scaling import largest_k, scaling_card, value

POLICIES = (("before", "base"), ("cold_start", "cold start"), ("after", "online RL"))
Cell = tuple[float, float, float] | None  # value, lower and upper end of its interval


def stages(summary: Summary) -> Markup | None:
    """Draw the table and the curves; None for a run that was neither evaluated nor voted on."""
    judged = [(name, when) for when, name in POLICIES if summary.figure("accuracy", when) is not None or _votes(summary, when)]
    if not judged:
        return None
    ks = [k for _, when in judged if (k := largest_k(_votes(summary, when), "vote@"))]
    guided = any(largest_k(_votes(summary, when), "guided@") for _, when in judged)
    kinds = {"vote": "votes", **({"guided": "meta-guided votes"} if guided else {})} if ks else {}
    consistent = any(summary.figure("consistency", when) is not None for _, when in judged)
    columns = ["greedy", *(f"{name}@{max(ks)}" for name in kinds.values()), *(["same in both orders"] if consistent else [])]
    head = tag("tr", tag("th", "policy"), *(tag("th", column) for column in columns))
    rows = {
        name: _cells(summary, when, kinds, ks) + [_share(summary, "consistency", when)] * consistent for name, when in judged
    }
    lines = [tag("tr", tag("th", name), *map(_table_cell, cells)) for name, cells in rows.items()]
    cards = [
        scaling_card(_votes(summary, when), title=f"Votes of the {name} policy", what=_votes_text(summary, when))
        for name, when in judged
    ]
    grid = tag("div", *cards, class_="grid") if any(cards) else None
    return tag(
        "section",
        tag("h2", "Stage by stage"),
        tag("p", _introduction(summary, voted=bool(ks), guided=guided, consistent=consistent)),
        tag("div", tag("table", head, *lines, class_="figures"), class_="wide"),
        grid,
    )


def _votes(summary: Summary, when: str) -> Mapping[str, Any]:
    by_stage = summary.values.get("votes")
    votes = by_stage.get(when) if isinstance(by_stage, Mapping) else None
    return votes if isinstance(votes, Mapping) else {}


def _cells(summary: Summary, when: str, kinds: Iterable[str], ks: list[int]) -> list[Cell]:
    """Returns the greedy accuracy and those of the most votes of each kind, plain or guided."""
    return [
        _share(summary, "accuracy", when),
        *(_interval(_votes(summary, when), f"{kind}@{max(ks)}") for kind in kinds),
    ]


def _share(summary: Summary, name: str, when: str) -> Cell:
    """Returns a share of the held-out preferences with its interval."""
    rows, share = summary.figure("heldout", "rows"), summary.figure(name, when)
    return (share, *wilson(share, rows)) if share is not None and rows else None


def _interval(figures: Mapping[str, Any], name: str) -> Cell:
    middle, low, high = (value(figures, name, field) for field in ("value", "low", "high"))
    return None if middle is None or low is None or high is None else (middle, low, high)


def _table_cell(cell: Cell) -> Markup:
    if cell is None:
        return tag("td", "—")
    middle, low, high = cell
    return tag("td", percent(middle), tag("small", f" {percent(low)} – {percent(high)}"))


def _votes_text(summary: Summary, when: str) -> str:
    rows = value(_votes(summary, when), "vote@1", "rows")
    where = f" on {number(rows)} held-out preferences" if rows is not None else ""
    guided = " Guided: the meta-RM picks half of them." if largest_k(_votes(summary, when), "guided@") else ""
    return f"Scores of k judgements are summed{where}, in balanced orders of the responses.{guided}"


def _introduction(summary: Summary, *, voted: bool, guided: bool, consistent: bool) -> str:
    text = "Accuracy on held-out preferences, with 95 % intervals"
    text += ". Votes may cover fewer of them than greedy judgements." if voted else "."
    if consistent:
        text += " Same in both orders: the share whose greedy judgements in both orders name the same single best response."
    if voted and not guided:
        text += " No votes are guided by a meta-RM: none was trained in this run."
    cold_start = summary.values.get("cold_start")
    counts = cold_start.get("verdicts") if isinstance(cold_start, Mapping) else None
    if isinstance(counts, Mapping):
        sampled = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        text += f" Judgements sampled for the cold start: {sampled}."
    return text
