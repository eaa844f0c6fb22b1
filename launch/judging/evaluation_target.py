"""Which judge an evaluation measures, and where its results go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.judging.request_pace import EndpointLimits

JUDGEMENTS = "judgements.jsonl"  # file of the results folder


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationTarget:
    """Which judge is measured, and where the results go."""

    model: str
    """A model folder or hub name; with an endpoint the served model's name."""
    endpoint: str
    """Address of an OpenAI-compatible server; "": our own engines."""
    meta_rm: str
    """A meta-RM's folder; "": none."""
    early_stop: bool = False
    """Whether votes that cannot change the best response are spared."""
    extra_body: Mapping[str, Any] | None = None
    """Fields that each request to the endpoint holds beside its own."""
    limits: EndpointLimits = field(default_factory=EndpointLimits)
    """How the endpoint may be asked."""
    out: Path
    """Folder of the results. What is on disk there already is not done again."""


def short_name(model: str) -> str:
    """Returns a model's name as part of a file name: the last parts of its path."""
    path = model.rstrip("/")
    parts = [part for part in path.split("/") if part not in {"", ".", "..", "model"}]
    return "-".join(parts[-2:]) or "model"
