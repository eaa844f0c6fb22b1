"""The curves of a run's report as a report in W&B, which needs the package wandb-workspaces (the extra `wandb-reports`).

metrics.jsonl (what was logged), CARDS (what is drawn), config.yaml (the project) ─▶ `draft` ─▶ `save` ─▶ W&B ─▶ address

W&B draws the curves from its own copy of the run's metrics, so the run must have been online, or synchronised since.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.load import ConfigError, load
from configs.sections import TrackingConfig
from launch.monitoring.metrics import metric
from launch.monitoring.wandb_check import require_usable
from launch.page.cards import CARDS, Card
from launch.page.run_page import CONFIG_FILE, RunFiles, read

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import LinePlot, Report

PACKAGE, EXTRA = "wandb_workspaces", "wandb-reports"
AXES = {
    "eval/version": "Held out",
    "learner/version": "Training",
    "time/elapsed_s": "The system",
    "meta_rm/step": "Meta-RM",
    "sft/step": "Cold start",
}


def save(run_folder: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Save the report of a run in W&B, in the project that the run was tracked in. Returns its address.

    Raises:
        ConfigError: the package or a key is not there, or the run's configuration cannot be read.
        ReportError: the folder holds no run, as of `read`.
        OSError: W&B's server did not answer, or refused.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(f"--wandb needs the package wandb-workspaces: pip install wandb-workspaces, or the extra {EXTRA}")
    run, project = read(run_folder), load(run_folder / CONFIG_FILE).tracking.project
    require_usable(TrackingConfig(mode="online", project=project), run_folder.resolve().name, environ)
    import wandb

    try:
        entity = environ.get("WANDB_ENTITY") or wandb.Api().default_entity
        return str(draft(run, run_folder.resolve().name, project, str(entity)).save().url)
    except (wandb.errors.Error, ValueError) as error:
        raise OSError(f"W&B did not take the report: {error}") from error


def draft(run: RunFiles, run_id: str, project: str, entity: str) -> Report:
    """Returns the report, which no server has seen yet: a grid of curves for each axis that the run logged along.

    Args:
        run: What the run left in its folder.
        run_id: Its id, the group of its W&B runs.
        project: W&B's project.
        entity: The user or team whose project it is.
    """
    from wandb_workspaces import expr
    from wandb_workspaces.reports.v2 import H2, MarkdownBlock, PanelGrid, Report, Runset

    logged = {name for record in run.records for name in record["metrics"]}
    blocks = [MarkdownBlock(text=f"All tries of `{run_id}`, by W&B's group. How good the judge is stands in its report.html.")]
    for axis, title in AXES.items():
        along = {name for name in logged if metric(name).axis == axis}
        cards = [(card, names) for card in CARDS if (names := drawn(card, along))]
        if not cards:
            continue
        runs = Runset(entity=entity, project=project, name=run_id, filters=[expr.Metric("Group") == run_id])
        said = "\n".join(f"- *{card.title}*: {card.what}" for card, _ in cards)
        plots = [_plot(card, names, axis, place) for place, (card, names) in enumerate(cards)]
        blocks += [H2(text=title), MarkdownBlock(text=said), PanelGrid(runsets=[runs], panels=plots)]
    return Report(project=project, entity=entity, title=f"SPCT · {run_id}"[:128], blocks=blocks, width="fluid")


def drawn(card: Card, logged: Collection[str]) -> list[str]:
    """Returns those metrics of a card that were logged; one that ends in @k stands for every k, in their order."""
    found = list[str]()
    for trace in card.traces:
        pattern = re.escape(trace.metric).replace("@k", r"@(\d+)")
        matches = [match for name in logged if (match := re.fullmatch(pattern, name))]
        found += [match[0] for match in sorted(matches, key=lambda match: [int(k) for k in match.groups()])]
    return found


def _plot(card: Card, names: Sequence[str], axis: str, place: int) -> LinePlot:
    from wandb_workspaces.reports.v2 import Layout, LinePlot

    width, height = 8, 7  # three in a row of W&B's 24 columns
    spot = Layout(x=place % 3 * width, y=place // 3 * height, w=width, h=height)
    return LinePlot(title=card.title, x=axis, y=list(names), title_x=metric(axis).meaning, layout=spot)
