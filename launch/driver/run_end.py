"""The end of a run that had begun: what came of it is recorded as far as the disk takes it, and a failure is one sentence.

processes have ended ─▶ summary.json ─▶ judge/ ─▶ the tracker ends ─▶ report.html ─▶ failure.txt, if it failed
"""

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buffer import files
from buffer.json_text import JsonError
from buffer.streams import ServerError
from configs.load import ConfigError
from grm.own_functions import RuleError
from grm.preferences import DataError
from grm.prompts import TemplateError
from launch.cluster import calls
from launch.cluster.failures import details
from launch.driver.lineage import log_models
from launch.driver.summary import accuracy_line
from launch.driver.trained_judge import last_lines, write_judge
from launch.monitoring.command import go_on
from launch.monitoring.redaction import redacted
from launch.monitoring.tracker import Tracker
from launch.page.run_page import ReportError, write_report
from launch.setup.gpu_blocks import Stages
from launch.setup.judge_source import JUDGE
from learner.checkpoint import CheckpointError

# What a run that has begun may end with. Before that, some of these say that the input cannot be used; afterwards none does.
FAILURES = (*calls.LOST, CheckpointError, OSError, ServerError, ConfigError, DataError, TemplateError, JsonError, RuleError)
DETAILS_FILE = "failure.txt"  # in the run folder: the stack that a run failed with, of the actor or of the driver


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What is said of a run at its end."""

    text: str
    """Its last lines, with their ends."""
    unwritten: str
    """Why there is no summary, "" when there is one."""


def record(
    folder: Path,
    whole: Mapping[str, Any],
    tracker: Tracker,
    error: BaseException | None,
    *,
    beside: Mapping[str, str],
    again: str,
) -> Ended:
    """Write summary, judge and report, and end the tracker. What cannot be written is noted, and stops nothing else.

    Args:
        folder: The run's.
        whole: Its summary.
        tracker: Ended here.
        error: What the run ends with.
        beside: The files that lie beside the weights of its judge.
        again: How the run goes on, in words, where it ends before its end.
    """
    problems: list[str] = []
    with _noted(folder / "summary.json", problems):
        files.write(folder / "summary.json", json.dumps(whole, indent=2) + "\n")
    unwritten = "".join(problems)
    judge = None
    with _noted(folder / JUDGE, problems):
        judge = write_judge(folder, beside)
    with _noted(folder, problems):
        log_models(tracker, folder, judge)
        tracker.finish(whole)
    try:
        report = str(write_report(folder))
    except ReportError as problem:  # the run itself has ended as its summary says
        report = f"there is none: {problem}"
    if text := _stack(error):
        with _noted(folder / DETAILS_FILE, problems):
            files.write(folder / DETAILS_FILE, redacted(text) + "\n")
    lines = [f"{accuracy_line(whole)}{last_lines(folder, judge)}report     {report}"]
    if text and (folder / DETAILS_FILE).is_file():
        lines.append(f"details    {folder / DETAILS_FILE}")
    lines += [f"note       {noted}" for noted in problems]
    if error is not None:
        lines.append(f"go on      {again}")
    return Ended(text="".join(f"{line}\n" for line in lines), unwritten=unwritten)


def how_to_go_on(folder: Path, stages: Stages, step: int, steps: int) -> str:
    """Returns how a run of these stages goes on from an optimiser step, in words."""
    if stages == "cold_start":
        return f"the same command, with run.id={folder.name}"
    return f"{go_on(folder)}   (step {step} of {steps})"


def failure_sentence(error: BaseException, folder: Path) -> str:
    """Returns the error as the run's; one of the system (a full disk, say) with its place and a remedy."""
    if isinstance(error, OSError) and error.errno is not None:
        place = error.filename or folder
        return f"the driver met an error of the system at {place}: {error.strerror}; put that right and resume the run"
    return str(error)


def _stack(error: BaseException | None) -> str:
    """Returns the stack of the actor that a run failed with, or that of the driver for an error of the system."""
    if isinstance(error, OSError) and error.errno is not None:
        return "".join(traceback.format_exception(error)).rstrip()
    return details(error)


@contextmanager
def _noted(path: Path, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problems.append(f"{path} cannot be written: {error.strerror or error}; put that right and resume the run")
