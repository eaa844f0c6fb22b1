"""A row of the paper's table from its name to our figure beside the paper's.

row ─▶ commands (train, evaluate), data, cost ─▶ launch/evaluate.py ─▶ table.json ─▶ macro averages ─▶ paper.json
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from buffer import files
from buffer.json_text import read_object
from configs.load import ConfigError
from configs.schema import Config
from grm.benchmark_sets import PREFIX
from grm.benchmarks import OVERALL
from grm.macro import Figures, Mean, Pool, macro, missing
from grm.statistics import Figure
from launch.judging.paper_table import GROUPS, NO_GENERAL, RELEASED, SINGLE, SIZES, SOURCES, PaperRow

RECIPE = "gemma2-27b"  # the preset of the rows that have to be trained
JUDGEMENT_TOKENS = 260  # of the paper's 27B model, on average (its figure 7)
TRAINING = "34.8 h on 128 A100 in the paper (its table 5: 19.2 h cold start, 15.6 h online RL)"
COLD_START = "19.2 h on 128 A100 in the paper (its table 5)"
CONFIG, RESULT = "evaluate", "paper.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a person chose beside the row."""

    model: str
    """The judge; "": the row's released one, or the one that the row's training leaves."""
    endpoint: str
    """Server of the judge; "": our own engines."""
    meta_rm: str
    """The meta-RM; "": the row's released one."""
    early_stop: bool = False
    """Whether votes that cannot change the best response are spared."""
    benchmarks: Sequence[str]
    """Sources, as `bench:reward-bench@FOLDER`; empty: those of the row's figures, from the hub."""
    config: str
    """Preset or file of the evaluation."""
    out: Path
    """Folder of the results."""
    overrides: Sequence[str]
    """Overrides of the evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A figure of ours beside the paper's."""

    benchmark: str
    """A name of `GROUPS`, or of one of its sections."""
    paper: float | None
    """The paper's figure in per cent; None: of a section, which the row does not give."""
    ours: Figure | None
    """Ours, 0..1; None: a subset has no figure."""
    missing: Sequence[str]
    """The subsets that have none."""


def sources(row: PaperRow, chosen: Sequence[str]) -> list[str]:
    """Return the sources of a row's benchmarks: those chosen, or the hub's. ConfigError for another kind of source."""
    if other := [source for source in chosen if not source.startswith(PREFIX)]:
        raise ConfigError(f"--data {other[0]}: is no benchmark; give {PREFIX}NAME or {PREFIX}NAME@FOLDER")
    return list(chosen) or [f"{PREFIX}{SOURCES[name]}" for name in row.paper if name in SOURCES]


def training_command(name: str, row: PaperRow) -> str:
    """Return the command that trains a row's model; "" where one is released."""
    if row.model:
        return ""
    entry = "launch/cold_start.py" if row.cold_start_only else "launch/run.py"
    return shlex.join(["python", entry, "--config", RECIPE, f"run.id={run_id(name)}", *row.overrides])


def trained_model(name: str, row: PaperRow) -> str:
    """Return where the training of a row leaves its model."""
    model = "cold_start/model" if row.cold_start_only else "checkpoints/policy/version-000900/model"
    return f"runs/{run_id(name)}/{model}"


def run_id(name: str) -> str:
    """Return the id of the run that trains a row's model: rows that differ in votes alone, `ours` and `ours@32`, share it."""
    return name.partition("@")[0]


def evaluation_arguments(name: str, row: PaperRow, choices: Choices) -> list[str]:
    """Return the arguments of launch/evaluate.py."""
    meta_rm = choices.meta_rm or row.meta_rm
    return [
        *("--model", choices.model or row.model or trained_model(name, row)),
        *(("--endpoint", choices.endpoint) if choices.endpoint else ()),
        *(("--meta-rm", meta_rm) if row.meta_rm else ()),
        *("--config", choices.config, "--out", str(choices.out), "--k", str(row.k)),
        *(("--early-stop",) if choices.early_stop else ()),
        *("--data", *sources(row, choices.benchmarks)),
        *row.evaluation,
        *choices.overrides,
    ]


def deviations(row: PaperRow, config: Config) -> list[str]:
    """Return in what our figure would be of something else than the row, each with what mends it.

    Args:
        row: The row.
        config: Of the evaluation.
    """
    found = []
    if row.model in RELEASED and not config.prompts.template_path:
        found.append("the model was trained with a prompt of its own, and is asked with ours: prompts.template_path=FILE")
    if row.model in RELEASED and not config.eval.clip_scores:
        found.append("its card clips scores to 1..10, and here those outside do not parse: eval.clip_scores=true")
    if row.meta_rm and not config.meta_rm.template_path:
        found.append("the meta-RM was trained with a plain prompt, and reads the judge's: meta_rm.template_path=FILE")
    if row.has_cold_start and NO_GENERAL not in row.overrides:
        found.append("the recipe names no general data, which the paper's cold start has: train with cold_start.general=[FILE]")
    return found


def describe(name: str, row: PaperRow, choices: Choices, config: Config, *, tokens_per_s: float) -> str:
    """Return the row in words: what it is, the paper's figures, data, commands, deviations and cost.

    Args:
        name: The row's.
        row: The row.
        choices: What a person chose.
        config: Of the evaluation.
        tokens_per_s: Decoded tokens per second, for the cost.
    """
    names = [source.removeprefix(PREFIX).partition("@")[0] for source in sources(row, choices.benchmarks)]
    both_orders = config.eval.both_orders  # of the greedy judgement
    judgements = sum(SIZES.get(each, 0) * (1 + (both_orders and each not in SINGLE) + row.k) for each in names)
    tokens = judgements * JUDGEMENT_TOKENS
    figures = ", ".join(f"{benchmark} {value:g}" for benchmark, value in row.paper.items())
    train, most = training_command(name, row), "at most" if choices.early_stop else "about"
    lines = [
        f"row        {name}: {row.what}",
        f"paper      {figures} (%)",
        f"data       {', '.join(sources(row, choices.benchmarks))}",
        *([f"train      {train}", f"           {COLD_START if row.cold_start_only else TRAINING}"] if train else []),
        f"evaluate   {shlex.join(['python', 'launch/evaluate.py', *evaluation_arguments(name, row, choices)])}",
        *(f"deviates   {each}" for each in deviations(row, config)),
        f"cost       {most} {judgements:,} judgements of {JUDGEMENT_TOKENS} tokens = {tokens / 1e6:,.0f}M tokens:"
        f" {tokens / tokens_per_s / 3600:,.1f} h at {tokens_per_s:g} tokens/s (assumed; prompts not counted)",
    ]
    return "\n".join(lines)


def compare(row: PaperRow, out: Path) -> list[Compared]:
    """Return our figures beside the paper's, from the `table.json` of an evaluation; a benchmark's sections stand below it.

    Raises:
        ConfigError: There is no evaluation in the folder.
    """
    path = out / "table.json"
    if not path.is_file():
        raise ConfigError(f"{out}: has no table.json; give the folder of an evaluation, or --run to make one")
    figures = read_figures(read_object(path))
    return [each for name in row.paper for each in _compared(row, GROUPS[name], figures)]


def read_figures(table: Mapping[str, Any]) -> Figures:
    """Return the figures of each subset in a `table.json`. A lone source without subsets has a row for all of it alone."""
    rows: Mapping[str, Any] = table["subsets"]
    found = {name: {key: Figure(**figure) for key, figure in row["figures"].items()} for name, row in rows.items()}
    if set(found) == {OVERALL} and len(table["data"]) == 1:
        found[str(table["data"][0]).removeprefix(PREFIX).partition("@")[0]] = found[OVERALL]
    return found


def _compared(row: PaperRow, group: Mean | Pool, figures: Figures) -> list[Compared]:
    name = row.area if group is GROUPS["ReaLMistake"] else row.figure
    whole = Compared(
        benchmark=group.name,
        paper=row.paper.get(group.name),
        ours=macro(group, figures, name),
        missing=missing(group, figures, name),
    )
    if group.name == OVERALL or isinstance(group, Pool):
        return [whole]
    sections = [
        Compared(benchmark=f"  {part.name}", paper=None, ours=macro(part, figures, name), missing=missing(part, figures, name))
        for part in group.parts
    ]
    return [whole, *sections]


def write(out: Path, name: str, row: PaperRow, compared: Sequence[Compared]) -> None:
    """Write `paper.json` beside the evaluation's results."""
    whole = {"row": name, "what": row.what, "figure": row.figure, "compared": [asdict(each) for each in compared]}
    files.write(out / RESULT, json.dumps(whole, indent=2) + "\n")


def print_compared(name: str, row: PaperRow, compared: Sequence[Compared]) -> None:
    """Print a line for each benchmark and section: the paper's figure, ours, and its interval."""
    table = Table(title=None, box=None, pad_edge=False)
    for column in (f"{name} ({row.figure})", "paper", "ours", "95 % interval", ""):
        table.add_column(column, justify="left" if column in ("", f"{name} ({row.figure})") else "right", no_wrap=True)
    for each in compared:
        paper = "" if each.paper is None else f"{each.paper:.1f}"
        if each.ours is None:
            lacking = "not measured" if len(each.missing) > 1 else f"no {each.missing[0]}"
            table.add_row(each.benchmark, paper, "", "", lacking)
            continue
        interval = f"{100 * each.ours.low:.1f} .. {100 * each.ours.high:.1f}"
        table.add_row(each.benchmark, paper, f"{100 * each.ours.value:.1f}", interval, f"{each.ours.rows} rows")
    Console().print(table)
