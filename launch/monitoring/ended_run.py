"""A run that no process drives any more, as its folder tells: how it ended, how far it came, what is left of it.

driver.lock is free ─▶ summary.json, run_state.json, checkpoints/ ─▶ EndedRun ─▶ lines
"""

import fcntl
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from buffer.json_text import read_object
from configs.schema import Config
from launch.monitoring.command import go_on
from launch.monitoring.plain_text import clean
from learner import checkpoint

LOCK, SUMMARY, STATE = "driver.lock", "summary.json", "run_state.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedRun:
    """What is known of a run that has ended."""

    folder: str
    """Its folder."""
    preset: str
    """Its preset, "" where that is not known."""
    state: Literal["completed", "stopped", "failed", "cut off"]
    """How it ended; `cut off`: before it could write its summary, as by a kill."""
    at: float
    """When, in seconds since the epoch; of one that was cut off, when it last wrote where it stands."""
    step: int
    """Optimiser steps done."""
    steps: int
    """Optimiser steps of the whole run."""
    seconds: float
    """That it took, in all tries."""
    checkpoint: int | None
    """Policy version of its newest checkpoint."""
    accuracy: dict[str, float]
    """Held-out accuracy by when, 0..1."""
    error: str
    """What it failed with."""


def is_driven(folder: Path) -> bool | None:
    """Returns whether a driver holds the run's folder; None where none ever did."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def ended_run(folder: Path, config: Config) -> EndedRun:
    """Returns what the folder of a run tells. JsonError for a file that is not as the run wrote it."""
    state, whole = _object(folder / STATE), _object(folder / SUMMARY)
    if whole and _time(folder / STATE) > _time(folder / SUMMARY):
        whole = {}  # of an earlier try
    versions = checkpoint.versions(folder / "checkpoints" / "policy")
    written = whole or {"finished": "cut off", "steps": state.get("version", 0), "seconds": state.get("seconds", {})}
    return EndedRun(
        folder=str(folder),
        preset=str(whole.get("preset") or state.get("preset") or ""),
        state=written["finished"],
        at=_time(folder / SUMMARY) if whole else _time(folder / STATE) or _time(folder / LOCK),
        step=int(written.get("steps", 0)),
        steps=config.grpo.steps,
        seconds=float(written.get("seconds", {}).get("total", 0.0)),
        checkpoint=versions[-1] if versions else None,
        accuracy={when: value for when, value in whole.get("accuracy", {}).items() if value is not None},
        error=str(whole.get("error", "")),
    )


def describe_ended(run: EndedRun) -> str:
    """Returns it as lines."""
    folder = Path(run.folder)
    when = datetime.fromtimestamp(run.at).strftime("%Y-%m-%d %H:%M")
    minutes, seconds = divmod(round(run.seconds), 60)
    how = {"completed": "completed", "stopped": "was stopped", "failed": "failed", "cut off": "was cut off"}[run.state]
    lines = [
        f"run        {folder}{f' ({run.preset})' if run.preset else ''}",
        f"state      {how} at step {run.step} of {run.steps}, {when}, after {minutes} min {seconds} s",
    ]
    if run.error:
        lines.append(f"error      {clean(run.error)}")
    if run.accuracy:
        known = (f"{name.replace('_', ' ')} {value:.1%}" for name, value in run.accuracy.items())
        lines.append(f"accuracy   {', '.join(known)}")
    if run.checkpoint is not None:
        lines.append(f"checkpoint step {run.checkpoint}, {folder / 'checkpoints' / 'latest'}")
    for name in ("judge", "report.html"):
        if (folder / name).exists():
            lines.append(f"{name.partition('.')[0]:<10} {folder / name}")
    if run.state != "completed":
        lines.append(f"go on      {go_on(folder)}")
    return "\n".join(lines)


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _time(path: Path) -> float:
    return path.stat().st_mtime if path.is_file() else 0.0
