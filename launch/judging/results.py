"""What an evaluation leaves: a table in the terminal, table.json, a page with the scaling plot, W&B, rewardbench's rows."""

import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buffer import files
from configs.load import dump
from configs.schema import Config
from grm.benchmarks import Item, TableRow
from grm.preferences import Preference
from launch.monitoring.plain_text import clean
from launch.monitoring.redaction import redacted
from launch.monitoring.tracker import Tracker
from launch.page.markup import Markup, join, tag
from launch.page.number_format import percent
from launch.page.run_page import TEMPLATE
from launch.page.scaling import scaling_card, vote_metrics

COUNTS = ("tokens", "vote_tokens", "votes_needed", "k_meta")  # figures that are no shares, with or without @k
LOG_WIDTH = 2000  # characters of a line that no terminal breaks


def tracked_id(out: Path) -> str:
    """Returns the id of an evaluation's W&B run."""
    return f"evaluate-{out.name}"


def print_table(rows: Sequence[TableRow]) -> None:
    """Print a line per figure over all rows, with its interval, those of votes at the most votes; below a line per kind of
    vote with a column for each number of votes, and a line per subset with the main figures, if there are several of these. All
    figures of all subsets are in table.json and on the page."""
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    overall = rows[-1]
    shown = _table(f"{clean(overall.subset)} ({overall.rows})", "95 % interval")
    ks, by_k = _by_votes(overall)
    fewer = {name for names in by_k.values() for k, name in names.items() if k != max(ks)}
    for name, figure in overall.figures.items():
        if name not in fewer:
            shown.add_row(name, _cell(name, figure.value), f"{_cell(name, figure.low)} .. {_cell(name, figure.high)}")
    console.print(shown)
    if len(ks) > 1:
        grid = _table(*(f"k = {k}" for k in ks))
        for kind, names in by_k.items():
            values = {k: _cell(name, overall.figures[name].value) for k, name in names.items()}
            grid.add_row(kind, *(values.get(k, "") for k in ks))
        console.print()
        console.print(grid)
    if len(rows) == 1:
        return
    main = _main(overall)
    by_subset = _table(*main)
    for row in rows:
        cells = (_cell(name, row.figures[name].value) if name in row.figures else "" for name in main)
        by_subset.add_row(Text(f"{clean(row.subset) or 'no subset'} ({row.rows})"), *cells)
    console.print()
    console.print(by_subset)


def _by_votes(row: TableRow) -> tuple[list[int], dict[str, dict[int, str]]]:
    """Returns the numbers of votes, ascending, and {kind: {number: name of its figure}} for kinds as `vote@k`, `auc_vote@k`."""
    by_k: dict[str, dict[int, str]] = {}
    for name in row.figures:
        if found := re.fullmatch(r"(\w+@)(\d+)(\w*)", name):
            kind, k, ending = found.groups()
            by_k.setdefault(f"{kind}k{ending}", {})[int(k)] = name
    return sorted({k for names in by_k.values() for k in names}), by_k


def _table(*columns: str) -> Table:
    table = Table(title=None, box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True, overflow="crop")
    return table


def _main(overall: TableRow) -> list[str]:
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


def _cell(name: str, value: float) -> str:
    return f"{value:.1f}" if _is_count(name) else f"{100 * value:.1f}"


def _is_count(name: str) -> bool:
    return name.partition("@")[0] in COUNTS


def write_evaluation(
    out: Path, rows: Sequence[TableRow], *, named: Mapping[str, Any], failed: Mapping[str, str], config: Config
) -> None:
    """Write table.json, report.html and the W&B run.

    Args:
        out: Folder of the evaluation.
        rows: The table; its last row is over all preferences.
        named: What was evaluated, by name: model, meta-RM, data.
        failed: {preference without an answer: the reason}.
        config: Of the evaluation.
    """
    failed = redacted(failed)
    figures = {row.subset: {"rows": row.rows, "figures": {n: asdict(f) for n, f in row.figures.items()}} for row in rows}
    whole = {**named, "failed": dict(failed), "subsets": figures}
    files.write(out / "table.json", json.dumps(whole, indent=2) + "\n")
    files.write(out / "config.yaml", dump(config))
    files.write(out / "report.html", _page(str(named["model"]), rows, failed))
    tracker = Tracker(out, tracked_id(out), config.model_dump(), config.tracking.project, config.tracking.mode)
    overall = rows[-1]
    names = ("parse_rate", "strict_parse_rate", "consistency")
    greedy = {"greedy": "eval/accuracy@1", **{name: f"eval/{name}@1" for name in names}}
    metrics = {metric: overall.figures[name].value for name, metric in greedy.items() if name in overall.figures}
    tracker.log({"eval/version": 0, **metrics, **vote_metrics(overall)})
    tracker.finish({"finished": "completed", **whole})


def _page(model: str, rows: Sequence[TableRow], failed: Mapping[str, str]) -> str:
    overall = {name: asdict(figure) for name, figure in rows[-1].figures.items()}
    card = scaling_card(overall, title="Accuracy over votes", what="Votes are summed; guided: the better half by the meta-RM.")
    columns = [rows[-1], *rows[:-1]]  # all rows first: with many subsets the page scrolls sideways
    head = tag("tr", tag("th", ""), *(tag("th", f"{row.subset or 'no subset'} ({row.rows})") for row in columns))
    lines = [tag("tr", tag("th", name), *(tag("td", _shown(name, row)) for row in columns)) for name in rows[-1].figures]
    notice = tag("p", f"{len(failed)} preference{'s' * (len(failed) != 1)} got no answer.", class_="notice") if failed else None
    sections = [tag("header", tag("div", tag("b", "SPCT evaluation"), tag("span", model), class_="over"), notice)]
    if card:
        sections.append(
            tag("section", tag("h2", "Inference-time scaling"), tag("div", card, class_="grid"), _votes_grid(rows[-1]))
        )
    sections.append(
        tag("section", tag("h2", "Figures"), tag("div", tag("table", head, *lines, class_="figures"), class_="wide"))
    )
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=join([f"SPCT evaluation · {model}"]), body=join(sections))


def _votes_grid(overall: TableRow) -> Markup:
    """Draw the figures of votes: a line per kind, a column for each number of votes."""
    ks, by_k = _by_votes(overall)
    head = tag("tr", tag("th", "k votes"), *(tag("th", f"{k}") for k in ks))
    lines = [
        tag("tr", tag("th", kind), *(tag("td", _shown(names.get(k, ""), overall)) for k in ks)) for kind, names in by_k.items()
    ]
    return tag("div", tag("table", head, *lines, class_="figures"), class_="wide")


def _shown(name: str, row: TableRow) -> Markup | str:
    figure = row.figures.get(name)
    if figure is None:
        return ""
    show = (lambda value: f"{value:.1f}") if _is_count(name) else percent
    return join([show(figure.value), tag("small", f" {show(figure.low)} – {show(figure.high)}")])


def rewardbench_rows(preferences: Sequence[Preference], items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    """Yields the rows of rewardbench's `<model>_outputs.jsonl` for the pairs: greedy scores of the first order, a tie counts as
    wrong there. An unparsable judgement scores 0 for both."""
    by_id = {item.id: item for item in items}
    for preference in preferences:
        item = by_id.get(preference.question.id)
        if item is None or item.greedy is None or len(item.lengths) != 2:
            continue
        scores = item.greedy.scores or (0, 0)
        chosen, rejected = scores[item.label], scores[1 - item.label]
        yield {
            "prompt": preference.question.query,
            "results": int(chosen > rejected),
            "scores_chosen": chosen,
            "scores_rejected": rejected,
        }
