"""How far the served judge's vote shares are probabilities: figures that `launch/evaluate.py` measured, beside the shares.

an evaluation's folder ─▶ measured: is it of this judge, asked as it is here, with k votes? ─▶ Calibration
                                                           `shares.calibration_of` says which verdicts it is about
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buffer.json_text import JsonError, read_object
from configs.load import ConfigError
from launch.judging.evaluation_target import JUDGEMENTS
from launch.judging.prepared_judge import PreparedJudge
from launch.judging.results import TABLE
from launch.monitoring import jsonl_log
from launch.serving.protocol import Calibration
from launch.setup.model_files import fingerprint

OPTION = "--evaluation"
ALIKE = (
    "template",
    "max_new_tokens",
    "temperature",
    "thinking",
    "clip_scores",
)  # what shares of votes depend on beside the judge


def measured(folder: Path, prepared: PreparedJudge, *, votes: int) -> Calibration:
    """Returns the figures of an evaluation over all its preferences, at so many votes.

    Raises:
        ConfigError: It did not come to its end, is of another judge or of one that was asked otherwise, or has no such figures.
    """
    try:
        table = read_object(folder / TABLE)
        (head, *_) = jsonl_log.repair_and_read(folder / JUDGEMENTS)
    except (JsonError, OSError, ValueError) as error:
        raise ConfigError(f"{OPTION} {folder}: {error}; give the folder of an evaluation that came to its end") from None
    asked: Mapping[str, Any] = head.get("settings", {})
    if asked.get("fingerprint") != fingerprint(prepared.found.model):
        raise ConfigError(f"{OPTION} {folder}: it measured another judge than {prepared.found.model}; evaluate this one")
    plan = prepared.plan
    here = {"template": plan.template.graded, "max_new_tokens": plan.max_new_tokens, **plan.settings()}
    if other := [name for name in ALIKE if asked.get(name) != here[name]]:
        raise ConfigError(f"{OPTION} {folder}: the judge was asked with another {', '.join(other)} than here; evaluate it so")
    *_, whole = table["subsets"].values()  # the last row is over all
    figures = whole["figures"]
    if f"brier@{votes}" not in figures or f"ece@{votes}" not in figures:
        there = sorted(int(name.partition("@")[2]) for name in figures if name.startswith("brier@"))
        told = f"it has those of {', '.join(map(str, there))} votes" if there else "it has none"
        raise ConfigError(f"{OPTION} {folder}: no Brier score of {votes} votes ({told}); evaluate with --k {votes}")
    brier, ece = figures[f"brier@{votes}"], figures[f"ece@{votes}"]
    return Calibration(
        votes=votes,
        brier=brier["value"],
        brier_interval=(brier["low"], brier["high"]),
        ece=ece["value"],
        ece_interval=(ece["low"], ece["high"]),
        preferences=ece["rows"],
        data=tuple(Path(name).name for name in table["data"]),
        policy_version=prepared.found.version,
    )
