"""Evaluations side by side, on the preferences that all of them judged, with the interval of each difference.

    folders ─▶ values.jsonl of each ─ by question ─▶ shared preferences ─▶ figures, and differences to the first one

A difference is taken preference by preference, so what is hard for all cancels: its interval is narrower than those of the two
figures would let one think. Preferences of one prompt are drawn together, as everywhere.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buffer.json_text import JsonError, read_object
from configs.load import ConfigError
from grm.statistics import Figure, area_figure, auc, mean_figure, percentiles, resampled, share_figure
from launch.judging.preference_values import VALUES
from launch.judging.results import TABLE
from launch.monitoring import jsonl_log

RESAMPLES, AREA_RESAMPLES = 1000, 200
GREEDY, AREA = "greedy", "auc_greedy"
Rows = Mapping[str, Mapping[str, Any]]  # values by question


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedFigure:
    """A figure of one evaluation, over the shared preferences."""

    folder: str
    """The evaluation."""
    name: str
    """The figure."""
    figure: Figure
    """Its value."""
    difference: Figure | None
    """This minus the first one of its kind; None: it is the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Evaluations side by side."""

    folders: Sequence[str]
    """The evaluations, as they were named."""
    models: Sequence[str]
    """What each of them measured."""
    counts: Sequence[int]
    """Preferences that each of them judged."""
    shared: int
    """Those that all of them judged."""
    figures: Sequence[ComparedFigure]
    """Accuracies, and the AUC of single responses."""
    subsets: Mapping[str, Sequence[Figure]]
    """{subset: `greedy` of each evaluation}, over the shared ones of two responses or more; {} for one subset."""
    benchmarks: Mapping[str, Sequence[Figure | None]]
    """{benchmark: its figure in each evaluation, over all that this one judged}; None where it has none."""


def compare(folders: Sequence[Path], *, seed: int = 0) -> Comparison:
    """Return evaluations side by side.

    Args:
        folders: Results of two evaluations or more.
        seed: Of the resamples.

    Raises:
        ConfigError: A folder holds none, they share no preference, or they disagree on a label.
    """
    if len(folders) < 2:
        raise ConfigError("--compare: name two folders or more")
    tables, found = [_table(folder) for folder in folders], [_values(folder) for folder in folders]
    shared = [question for question in found[0] if all(question in rows for rows in found[1:])]
    if not shared:
        raise ConfigError(f"--compare: no preference was judged in all of {', '.join(map(str, folders))}")
    for folder, rows in zip(folders, found, strict=True):
        if wrong := next((q for q in shared if rows[q]["label"] != found[0][q]["label"]), None):
            both = f"{found[0][wrong]['id']!r} in {folders[0]} and {rows[wrong]['id']!r} in {folder}"
            raise ConfigError(f"--compare: one question has two labels: {both}; judge the same data")
    names = [str(folder) for folder in folders]
    return Comparison(
        folders=names,
        models=[_model(table) for table in tables],
        counts=[len(rows) for rows in found],
        shared=len(shared),
        figures=[*_accuracies(names, found, shared, seed), *_areas(names, found, shared, seed)],
        subsets=_subsets(found, shared, seed),
        benchmarks=_benchmarks(tables),
    )


def _table(folder: Path) -> Mapping[str, Any]:
    try:
        return read_object(folder / TABLE)
    except (JsonError, OSError) as error:
        raise ConfigError(f"--compare {folder}: {error}; give the folder of an evaluation that came to its end") from None


def _model(table: Mapping[str, Any]) -> str:
    settings = table.get("settings", {})
    return f"{table.get('model')}{' (scalar reward model)' if settings.get('scalar') else ''}"


def _values(folder: Path) -> Rows:
    path = folder / VALUES
    if not path.is_file():
        raise ConfigError(f"--compare {folder}: has no {VALUES}; evaluate again with the same --out, which asks nothing")
    return {row["question"]: row for row in jsonl_log.repair_and_read(path)}


def _accuracies(names: Sequence[str], found: Sequence[Rows], shared: Sequence[str], seed: int) -> list[ComparedFigure]:
    several = [question for question in shared if all(GREEDY in rows[question]["values"] for rows in found)]
    groups = [found[0][question]["group"] for question in several]
    compared: list[ComparedFigure] = []
    first: list[float] | None = None
    for name, rows in zip(names, found, strict=True):
        for figure in _means(rows, several):
            values = [rows[question]["values"][figure] for question in several]
            difference = None
            if first is not None:
                gained = [mine - other for mine, other in zip(values, first, strict=True)]
                difference = mean_figure(gained, resamples=RESAMPLES, rng=random.Random(seed), groups=groups)
            first = values if first is None else first
            counted = share_figure(values, resamples=RESAMPLES, rng=random.Random(seed), groups=groups)
            compared.append(ComparedFigure(folder=name, name=figure, figure=counted, difference=difference))
    return compared


def _means(rows: Rows, questions: Sequence[str]) -> list[str]:
    """Returns `greedy` and `vote@K`, as far as each of the questions has it."""
    values = [rows[question]["values"] for question in questions]
    names = [name for name in (values[0] if values else {}) if name == GREEDY or _is_vote(name)]
    return [name for name in names if all(name in each for each in values)]


def _is_vote(name: str) -> bool:
    return name.startswith("vote@") and name.removeprefix("vote@").isdigit()


def _areas(names: Sequence[str], found: Sequence[Rows], shared: Sequence[str], seed: int) -> list[ComparedFigure]:
    single = [question for question in shared if all("score" in rows[question] for rows in found)]
    right = [found[0][question]["label"] == 1 for question in single]
    groups = [found[0][question]["group"] for question in single]
    compared: list[ComparedFigure] = []
    first: list[float] | None = None
    for name, rows in zip(names, found, strict=True):
        scores = [float(rows[question]["score"]) for question in single]
        area = area_figure([scores], right, resamples=AREA_RESAMPLES, rng=random.Random(seed), groups=groups)
        if area is None:
            return []
        difference = None if first is None else _area_difference(scores, first, right, groups, seed)
        first = scores if first is None else first
        compared.append(ComparedFigure(folder=name, name=AREA, figure=area, difference=difference))
    return compared


def _area_difference(
    mine: Sequence[float], other: Sequence[float], right: Sequence[bool], groups: Sequence[str], seed: int
) -> Figure:
    def gained(rows: Sequence[int]) -> float | None:
        areas = [auc([scores[row] for row in rows], [right[row] for row in rows]) for scores in (mine, other)]
        return None if areas[0] is None or areas[1] is None else areas[0] - areas[1]

    drawn = resampled(groups, resamples=AREA_RESAMPLES, rng=random.Random(seed))
    estimates = [each for each in map(gained, drawn) if each is not None]  # resamples of one label alone have no AUC
    value = gained(range(len(mine))) or 0.0
    low, high = percentiles(estimates or [value])
    return Figure(value=value, low=low, high=high, rows=len(mine))


def _subsets(found: Sequence[Rows], shared: Sequence[str], seed: int) -> dict[str, list[Figure]]:
    several = [question for question in shared if all(GREEDY in rows[question]["values"] for rows in found)]
    names = sorted({found[0][question]["subset"] for question in several})
    if len(names) < 2:
        return {}
    counted: dict[str, list[Figure]] = {}
    for name in names:
        own = [question for question in several if found[0][question]["subset"] == name]
        groups = [found[0][question]["group"] for question in own]
        counted[name] = [
            share_figure([r[q]["values"][GREEDY] for q in own], resamples=RESAMPLES, rng=random.Random(seed), groups=groups)
            for r in found
        ]
    return counted


def _benchmarks(tables: Sequence[Mapping[str, Any]]) -> dict[str, list[Figure | None]]:
    whole = [
        {each["benchmark"]: each["figure"] for each in table.get("benchmarks", ()) if not each["part"]} for table in tables
    ]
    names = dict.fromkeys(name for each in whole for name in each)
    return {name: [Figure(**figure) if (figure := each.get(name)) else None for each in whole] for name in names}
