"""The metrics of a run as TensorBoard's files, by torch's writer, which needs the package `tensorboard` (an extra of its own).

record ─▶ each metric, at the step of its axis (`METRICS`) ─▶ <run>/tensorboard/events.out.tfevents.*
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from configs.load import ConfigError
from configs.sections import TrackingConfig
from launch.monitoring.metrics import metric

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


def require_installed(tracking: TrackingConfig) -> None:
    """ConfigError when TensorBoard's files are asked for and its package is not there."""
    if tracking.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("tracking.tensorboard = true needs the package tensorboard: pip install tensorboard, or leave it out")


def open_writer(run: Path) -> SummaryWriter:
    """Returns a writer to the folder of a run, new or resumed."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / FOLDER))


def write(writer: SummaryWriter, record: Mapping[str, float]) -> None:
    """Write a record, as `checked` returns it, each metric at the whole step, or second, of its axis."""
    for name, value in record.items():
        axis = metric(name).axis
        if name != axis:
            writer.add_scalar(name, value, int(record[axis]))
