"""The beginning of a run, once its folder is locked: what it is made of is recorded and printed, what it has found is read."""

from collections.abc import Mapping
from pathlib import Path

from buffer import files
from configs.load import dump
from configs.schema import Config
from launch.driver.lineage import log_inputs
from launch.judging.heldout import Evaluation
from launch.monitoring import jsonl_log
from launch.monitoring.plain_text import fitted
from launch.monitoring.tracker import Job, Tracker
from launch.setup import fingerprints
from launch.setup.preflight import RunInputs, format_notes, format_skipped, format_used
from launch.setup.resource_plan import describe

EVALUATIONS = "evaluations.jsonl"


def announce(config: Config, inputs: RunInputs, *, resumed: bool, continued: bool) -> None:
    """Print what the run is and record what it starts from, unless an earlier try has.

    Args:
        config: The run's.
        inputs: What it starts from.
        resumed: The folder holds the config of a run that goes on.
        continued: The folder holds work of an earlier try.
    """
    notes = list(inputs.notes)
    if continued and not inputs.known:
        notes.append("the run began before its data, template and model were recorded, so nobody can tell if they changed")
    if not inputs.known:
        fingerprints.write(inputs.folder, inputs.fingerprints)
    if not resumed:
        files.write(inputs.folder / "config.yaml", dump(config))
    described = describe(inputs.plan)
    data = f"{format_used(inputs.used)}{format_skipped(inputs.skipped, inputs.named)}"
    print(fitted(f"run        {inputs.folder}\n{described}{data}{format_notes(notes)}"), flush=True)


def new_tracker(config: Config, folder: Path, revisions: Mapping[str, str], job: Job) -> Tracker:
    """Returns the run's tracker; config, inputs and revisions are recorded with its metrics."""
    recorded = {**config.model_dump(), "revisions": dict(revisions)}
    how = config.tracking
    tracker = Tracker(folder, folder.name, recorded, how.project, how.mode, job=job, tensorboard=how.tensorboard)
    log_inputs(tracker, folder)
    return tracker


def evaluations_of(folder: Path) -> dict[str, Evaluation]:
    """Returns the evaluations that an earlier try has made, by when. The lock is held: reading may repair the file."""
    return {row["when"]: Evaluation.from_row(row) for row in jsonl_log.repair_and_read(folder / EVALUATIONS)}
