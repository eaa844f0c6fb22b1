"""Evaluations side by side in the terminal."""

from rich.text import Text

from grm.statistics import Figure
from launch.judging.comparison import Comparison
from launch.judging.figure_meanings import meanings
from launch.judging.figure_names import cell
from launch.judging.results_terminal import console_of, table_of
from launch.monitoring.plain_text import clean, log_line


def print_comparison(found: Comparison) -> None:
    """Print which evaluations are compared, their figures with the differences to the first line, subsets, benchmarks."""
    console = console_of()
    for number, (folder, model, count) in enumerate(zip(found.folders, found.models, found.counts, strict=True), 1):
        console.print(Text(f"{number:<10} {clean(model)}, {count:,} preferences: {clean(folder)}"))
    console.print(Text(f"{'shared':<10} {found.shared:,} preferences, found by what they say; the figures are of these"))
    console.print()
    figures = table_of("figure", "value", "95 % interval", "minus the first", "95 % interval")
    figures.columns[0].header = "evaluation"
    places = {folder: str(number) for number, folder in enumerate(found.folders, 1)}
    for each in found.figures:
        value = [cell(each.name, each.figure.value), _interval(each.name, each.figure)]
        gained = ["", ""] if each.difference is None else _signed(each.name, each.difference)
        figures.add_row(f"{places[each.folder]}", each.name, *value, *gained)
    console.print(figures)
    for kind, words in meanings(each.name for each in found.figures).items():
        console.print(Text(log_line(f"{kind:<10} {words}; in %"), style="dim"))
    for title, rows in (("greedy, by subset", found.subsets), ("benchmark, over all of its own", found.benchmarks)):
        if not rows:
            continue
        console.print()
        named = table_of(*places.values())
        named.columns[0].header = title
        for name, own in rows.items():
            shown = (f"{cell('', each.value)} ({_interval('', each)})" if each is not None else "" for each in own)
            named.add_row(Text(clean(name) or "no subset"), *shown)
        console.print(named)


def _interval(name: str, figure: Figure) -> str:
    return f"{cell(name, figure.low)} .. {cell(name, figure.high)}"


def _signed(name: str, figure: Figure) -> list[str]:
    """Returns a difference and its interval, with their signs."""
    value, low, high = (f"{'+' if each > 0 else ''}{cell(name, each)}" for each in (figure.value, figure.low, figure.high))
    return [value, f"{low} .. {high}"]
