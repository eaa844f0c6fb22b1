"""The lines of metrics.jsonl, and what of them survives: a run that was cut off, or a learner that went back to its checkpoint,
counts its steps again (pure but for `read`)."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from launch.monitoring.metrics import ELAPSED, metric

Record = Mapping[str, Any]
"""A line of metrics.jsonl: {"elapsed_s": seconds, "metrics": {name: value or None}}."""
Point = tuple[float, float]
"""x and y."""


def finite(value: object) -> TypeGuard[float]:
    """Whether a value read from JSON is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read(path: Path) -> list[Record]:
    """Returns the lines of a file; none where it does not exist. What is no such line is passed over: a kill, or a disk that is
    full, leaves a part of one."""
    found: list[Record] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("metrics"), dict) and finite(row.get("elapsed_s")):
                found.append(row)
    return found


def points(records: Sequence[Record], name: str) -> tuple[list[Point], int]:
    """Returns a metric over its axis by ascending x, and how many of its values were not finite (null).

    A learner that resumes from a checkpoint counts its versions again. What it had logged beyond the checkpoint does not
    belong to the surviving weights, so a point whose x was reached before replaces all points from there on.
    """
    axis, measured, not_finite = metric(name).axis, list[Point](), 0
    for record in records:
        values = record["metrics"]
        if name not in values:
            continue
        x = record["elapsed_s"] if axis == ELAPSED else values.get(axis)
        while measured and finite(x) and measured[-1][0] >= x:
            measured.pop()
        if finite(x) and finite(values[name]):
            measured.append((float(x), float(values[name])))
        else:
            not_finite += 1
    return measured, not_finite


def values(records: Sequence[Record], name: str) -> list[float]:
    """Returns the surviving values of a metric, in the order of its axis."""
    return [y for _, y in points(records, name)[0]]
