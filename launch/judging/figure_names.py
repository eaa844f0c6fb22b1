"""Names of figures: which are shares, which belong to a number of votes, and which are shown first."""

import re

from grm.benchmarks import COUNTS, TableRow

DECIMALS = ("brier",)  # figures from 0 to 1 that are no shares


def by_votes(row: TableRow) -> tuple[list[int], dict[str, dict[int, str]]]:
    """Returns the numbers of votes, ascending, and {kind: {number: name of its figure}} for kinds as `vote@k`, `auc_vote@k`."""
    by_k: dict[str, dict[int, str]] = {}
    for name in row.figures:
        if found := re.fullmatch(r"(\w+@)(\d+)(\w*)", name):
            kind, k, ending = found.groups()
            by_k.setdefault(f"{kind}k{ending}", {})[int(k)] = name
    return sorted({k for names in by_k.values() for k in names}), by_k


def main_figures(overall: TableRow) -> list[str]:
    """Returns the figures that tell a judge from a trivial one: parse rate, baselines, greedy, how many verdicts are the same
    in both orders, the most votes, plain and guided."""
    always = (
        "parse_rate",
        "strict_parse_rate",
        "chance",
        "longest",
        "shortest",
        "greedy",
        "expected",
        "consistency",
        "auc_greedy",
    )
    names = [name for name in always if name in overall.figures]
    if names[:2] == list(always[:2]) and overall.figures[names[0]].value == overall.figures[names[1]].value:
        names.remove("strict_parse_rate")  # all of it was read strictly
    for kind in ("vote", "guided", "auc_vote", "auc_guided"):
        counted = [name for name in overall.figures if re.fullmatch(rf"{kind}@\d+", name)]
        names += counted[-1:]
    return names


def cell(name: str, value: float) -> str:
    """Returns a figure's value as it is printed: a share in per cent."""
    kind = name.partition("@")[0]
    return f"{value:.1f}" if kind in COUNTS else f"{value:.3f}" if kind in DECIMALS else f"{100 * value:.1f}"
