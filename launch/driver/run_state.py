"""Where a run stands: what it has seen so far, on disk at every optimiser step, so that a resumed run goes on counting."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from actors.rollout import RolloutReport
from learner.grpo import GRPOReport
from learner.meta_rm import MetaRMReport


@dataclass(slots=True)
class RunTotals:
    """What the run has seen so far, for the summary. steps: optimiser steps on_report of, those that a crash undid among
    them; version: the last. restarts: replacements, by part."""

    version: int = 0
    steps: int = 0
    tokens: int = 0
    first_reward: float | None = None
    last_reward: float | None = None
    staleness_max: int = 0
    staleness_sum: float = 0.0
    learner_idle_s: float = 0.0
    learner_s: float = 0.0
    rollout_idle_s: float = 0.0
    rollout_s: float = 0.0
    meta_auc: list[float] = field(default_factory=list)
    meta_accuracy: list[float] = field(default_factory=list)
    meta_examples: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)  # as of the last step: a stopped run may have no server to ask
    restarts: dict[str, int] = field(default_factory=dict)

    def add_rollout(self, report: RolloutReport) -> None:
        self.tokens += report.tokens
        self.rollout_idle_s += report.idle_s
        self.rollout_s += report.seconds

    def add_meta_rm(self, report: MetaRMReport) -> None:
        self.meta_examples += report.completions
        self.meta_accuracy.append(report.metrics["meta_rm/accuracy"])
        if "meta_rm/auc" in report.metrics:  # a batch of one class has none
            self.meta_auc.append(report.metrics["meta_rm/auc"])

    def add_grpo(self, report: GRPOReport) -> None:
        metrics = report.metrics
        self.version = report.version
        self.steps += 1
        self.staleness_max = max(self.staleness_max, int(metrics["staleness/max"]))
        self.staleness_sum += metrics["staleness/mean"]
        self.learner_idle_s += metrics["time/wait_for_experience_s"]
        self.learner_s += metrics["time/step_s"]
        if "reward/mean" in metrics:
            self.last_reward = metrics["reward/mean"]
            self.first_reward = self.last_reward if self.first_reward is None else self.first_reward


class RunState:
    """The figures of a run and the file that keeps them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.totals = RunTotals(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else RunTotals()

    def save(self) -> None:
        """The whole file or the one before: a kill in between leaves no half of one."""
        draft = self._path.with_suffix(".unfinished")
        draft.write_text(json.dumps(asdict(self.totals)), encoding="utf-8")
        draft.replace(self._path)
