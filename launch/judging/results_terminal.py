"""An evaluation in the terminal: warnings first, then the table, known benchmarks, and what the answers were like."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from grm.aggregates import Aggregate
from grm.benchmarks import TableRow
from grm.statistics import Figure
from launch.judging.answer_quality import AnswerQuality, describe_reasons, describe_spared, warnings
from launch.judging.evaluated import Evaluated
from launch.judging.figure_names import by_votes, cell, main_figures
from launch.judging.results_headline import headline
from launch.monitoring.plain_text import clean, log_line

LOG_WIDTH = 2000  # characters of a line that no terminal breaks
EXCERPT = 240  # characters of an unparsed judgement
SHARES = "shares in %"  # over the names; lengths, numbers of votes and Brier scores are none
GAP = 2  # characters between two columns
SPARED = ("shortest", "longest", "strict_parse_rate", "chance", "expected")  # columns of a narrow table, the first to go first


def print_evaluation(found: Evaluated) -> None:
    """Print an evaluation: what a reader must know of the answers stands above the figures."""
    console = console_of()
    for warning in (*found.notes, *warnings(found.quality)):
        console.print(Text(f"WARNING    {clean(warning)}", style="bold"))
    print_table(found.rows, macro=found.macro)
    if found.aggregates:
        console.print()
        console.print(_benchmarks(found.aggregates))
    _print_quality(console, found.quality)
    if result := headline(found):  # last, where a reader looks when the table has scrolled by
        console.print(Text(log_line(f"result     {result.sentence}"), style="bold"))


def console_of() -> Console:
    """Returns the console of a terminal; for a file, one whose lines nobody breaks."""
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console


def print_table(rows: Sequence[TableRow], *, macro: dict[str, Figure] | None = None) -> None:
    """Print a line per figure over all rows, with its interval, those of votes at the most votes; below a line per kind of
    vote with a column for each number of votes, and a line per subset with the main figures, if there are several of these:
    `overall` is the micro average, in which each preference counts the same, `macro` the mean over subsets. All figures of all
    subsets are in table.json and on the page."""
    console = console_of()
    overall = rows[-1]
    shown = table_of(f"{clean(overall.subset)} ({overall.rows})", "95 % interval")
    ks, by_k = by_votes(overall)
    fewer = {name for names in by_k.values() for k, name in names.items() if k != max(ks)}
    for name, figure in overall.figures.items():
        if name not in fewer:
            shown.add_row(name, cell(name, figure.value), f"{cell(name, figure.low)} .. {cell(name, figure.high)}")
    console.print(shown)
    if len(ks) > 1:
        grid = table_of(*(f"k = {k}" for k in ks))
        for kind, names in by_k.items():
            values = {k: cell(name, overall.figures[name].value) for k, name in names.items()}
            grid.add_row(kind, *(values.get(k, "") for k in ks))
        console.print()
        console.print(grid)
    if len(rows) == 1:
        return
    heads = [f"{'overall, micro' if row is overall else clean(row.subset) or 'no subset'} ({row.rows})" for row in rows]
    average = f"macro, mean of {len(rows) - 1} subsets"
    main = fitting(main_figures(overall), console.width - max(map(len, (*heads, average))))
    by_subset = table_of(*main)
    for head, row in zip(heads, rows, strict=True):
        cells = (cell(name, row.figures[name].value) if name in row.figures else "" for name in main)
        by_subset.add_row(Text(head), *cells)
    if macro:
        cells = (cell(name, macro[name].value) if name in macro else "" for name in main)
        by_subset.add_row(Text(average), *cells)
    console.print()
    console.print(by_subset)


def fitting(names: Sequence[str], width: int) -> list[str]:
    """Returns the columns that a terminal has room for beside the names of subsets: those that can be spared go first.

    >>> fitting(["parse_rate", "chance", "longest", "shortest", "greedy"], 34)
    ['parse_rate', 'chance', 'greedy']
    """
    kept = list(names)
    for spared in (name for name in SPARED if name in names):
        if sum(len(name) + GAP for name in kept) <= width:
            break
        kept.remove(spared)
    return kept


def table_of(*columns: str) -> Table:
    """Returns a table without lines: a column of names under the unit, then these."""
    table = Table(title=None, box=None, pad_edge=False)
    table.add_column(SHARES, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True, overflow="crop")
    return table


def _benchmarks(aggregates: Sequence[Aggregate]) -> Table:
    table = table_of("figure", "value", "95 % interval")
    table.add_column("")
    for each in aggregates:
        name = f"  {each.part}" if each.part else each.benchmark
        if each.figure is None:
            lacking = f"missing: {', '.join(clean(subset) for subset in each.missing[:3])}{' …' * (len(each.missing) > 3)}"
            table.add_row(Text(name), each.name, "", "", Text(lacking))
            continue
        low, high = cell(each.name, each.figure.low), cell(each.name, each.figure.high)
        words = each.rule if not each.part else ""
        table.add_row(Text(name), each.name, cell(each.name, each.figure.value), f"{low} .. {high}", Text(words))
    return table


def _print_quality(console: Console, found: AnswerQuality) -> None:
    """Print why judgements did not parse, a few of them, what early stopping spared, and what the served ones cost."""
    if found.reasons:
        console.print(Text(f"unparsed   {found.judgements - found.parsed} of {found.judgements}: {describe_reasons(found)}"))
        for each in found.to_read:
            words = each.text or f"(nothing; it thought: {each.thought})"
            text = clean(words)
            shown = text if len(text) <= EXCERPT else f"{text[: EXCERPT // 2]} […] {text[-EXCERPT // 2 :]}"
            console.print(Text(f"           {clean(each.id)}, {each.kind}, {each.reason}: {shown}"))
    if found.spared:
        console.print(Text(f"early stop {describe_spared(found)}"))
    if found.prompt_tokens:
        spent = f"{found.prompt_tokens:,} prompt + {found.completion_tokens:,} completion tokens"
        console.print(Text(f"tokens     {spent} of the judgements above, as the server counts them"))
