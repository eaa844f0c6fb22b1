"""The result of an evaluation in one sentence: which judge, on what data, how often right, beside judges without a model."""

from dataclasses import dataclass

from grm.benchmarks import TableRow
from grm.statistics import Figure
from launch.judging.evaluated import Evaluated
from launch.judging.evaluation_target import short_name
from launch.judging.figure_names import by_votes

BASELINES = {"chance": "guessing", "longest": "the longest response", "shortest": "the shortest response"}
NAMED = 3  # data sets that the sentence names


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """What the sentence says, for those who draw it."""

    figure: str
    """Name of the main figure: `greedy`, or `auc_greedy` where all preferences have one response."""
    value: Figure
    """It, with its interval."""
    votes: tuple[int, Figure] | None
    """The same with the most votes: how many, and the value."""
    baselines: dict[str, Figure]
    """{name as of `BASELINES`: accuracy}."""
    sentence: str
    """All of it in words."""


def headline(found: Evaluated) -> Headline | None:
    """Returns the headline; None where nothing was judged greedily."""
    overall = found.rows[-1]
    name = next((name for name in ("greedy", "auc_greedy") if name in overall.figures), None)
    if name is None:
        return None
    value, single = overall.figures[name], name != "greedy"
    votes = _most_votes(overall, "auc_vote@k" if single else "vote@k")
    baselines = {} if single else {each: overall.figures[each] for each in BASELINES if each in overall.figures}
    judge = short_name(str(found.named["model"]))
    rows, data = f"{value.rows:,}", _data(found)
    interval = f"95 % interval {_range(value)}"
    if single:
        what = f"{judge} scores a right response above a wrong one in {_percent(value.value)} of the cases ({interval})"
        what, beside = f"{what}, on {rows} single responses of {data}", "guessing 50.0\u00a0%"
    else:
        what = f"{judge} finds the best response in {_percent(value.value)} of {rows} preferences of {data} ({interval})"
        beside = ", ".join(f"{BASELINES[each]} {_percent(figure.value)}" for each, figure in baselines.items())
    if votes:
        what += f", with {votes[0]} votes in {_percent(votes[1].value)} ({_range(votes[1])})"
    sentence = f"{what}{f'; without a model: {beside}' if beside else ''}.{_doubt(value, baselines)}"
    return Headline(figure=name, value=value, votes=votes, baselines=baselines, sentence=sentence)


def _most_votes(overall: TableRow, kind: str) -> tuple[int, Figure] | None:
    by_k = by_votes(overall)[1].get(kind, {})
    most = max(by_k, default=0)
    return (most, overall.figures[by_k[most]]) if most > 1 else None


def _doubt(value: Figure, baselines: dict[str, Figure]) -> str:
    """Returns what speaks against the result: a judge without a model that is as good, as far as so many rows can tell."""
    if not baselines:
        return ""
    best = max(baselines, key=lambda each: baselines[each].value)
    if value.low > baselines[best].value:
        return ""
    return f" These rows do not show that it is better than {BASELINES[best]}."


def _data(found: Evaluated) -> str:
    names = [short_name(str(each)) for each in found.named.get("data", ())]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}" if names else "unnamed data"


def _range(figure: Figure) -> str:
    return f"{100 * figure.low:.1f} to {_percent(figure.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"
