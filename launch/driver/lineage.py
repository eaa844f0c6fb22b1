"""What a run is made from and what it makes, as W&B artifacts: small files that name what lies in the run's folder.

inputs.json ─▶ <run>-inputs ─▶ <run>-cold_start-model ─▶ <run>-judge
                                        └──────────────▶ <run>-checkpoints-meta-rm

Each names in its metadata (`made_from`) those that it was made from, and its folder. Weights and data are not uploaded.
"""

from pathlib import Path

from launch.monitoring.tracker import Tracker
from launch.setup.fingerprints import FILE
from launch.setup.model_card import BESIDE

COLD_START = Path("cold_start") / "model"
META_RM = Path("checkpoints") / "meta-rm"


def log_inputs(tracker: Tracker, run: Path) -> None:
    """Log the fingerprints of data, template, model and own functions."""
    tracker.artifact("dataset", run, [FILE], [])


def log_models(tracker: Tracker, run: Path, judge: Path | None) -> None:
    """Log the models that a run has made by its end.

    Args:
        tracker: The run's.
        run: Its folder.
        judge: The folder of its judge; None: there is none.
    """
    start, made_from = run / COLD_START, [tracker.artifact_name(run)]
    if start.is_dir():
        tracker.artifact("model", start, BESIDE, made_from)
        made_from = [tracker.artifact_name(start)]
    if judge is not None:
        tracker.artifact("model", judge, BESIDE, made_from)
    if (run / META_RM).is_dir():
        tracker.artifact("model", run / META_RM, [], made_from)
