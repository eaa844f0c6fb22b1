"""summary.json: what came of a run, as far as it came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from configs.schema import Config
from grm.baselines import chance_accuracy, longest_accuracy, shortest_accuracy
from grm.benchmarks import Figure, TableRow
from grm.preferences import Preference
from launch.driver.run_state import RunTotals
from launch.judging.heldout import Evaluation

Finished = Literal["completed", "stopped", "failed"]
WINDOW = 20  # last meta-RM batches whose figures are averaged


@dataclass(kw_only=True, slots=True)
class RunResults:
    """What the stages found, filled as they end. evaluations: by when; votes: counted, by when; seconds: by stage."""

    judged: Sequence[Preference]
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    votes: dict[str, TableRow] = field(default_factory=dict)
    cold_start: dict[str, Any] = field(default_factory=dict)
    training: RunTotals = field(default_factory=RunTotals)
    seconds: dict[str, float] = field(default_factory=dict)


def summary(config: Config, results: RunResults, *, run_id: str, preset: str, finished: Finished) -> dict[str, Any]:
    """The whole of summary.json; None where there is no figure."""
    f = results.training
    return {
        "run_id": run_id,
        "preset": preset,
        "seed": config.run.seed,
        "finished": finished,
        "accuracy": _each(results.evaluations, "accuracy"),
        "parse_rate": _each(results.evaluations, "parse_rate"),
        "baselines": _baselines(results.judged),
        "heldout": {"rows": len(results.judged), "n": sorted(Counter(len(p.question.responses) for p in results.judged))},
        "votes": {when: _scaling(row) for when, row in results.votes.items()},
        "cold_start": results.cold_start,
        "staleness": {
            "max": f.staleness_max if f.steps else None,
            "mean": f.staleness_sum / f.steps if f.steps else None,
            "bound": config.grpo.max_staleness,
        },
        "groups": f.outcomes,
        "restarts": f.restarts,
        "reward": {"first": f.first_reward, "last": f.last_reward},
        "idle": {
            "learner": f.learner_idle_s / f.learner_s if f.learner_s else None,
            "rollout": f.rollout_idle_s / f.rollout_s if f.rollout_s else None,
        },
        "meta_rm": {
            "auc": fmean(f.meta_auc[-WINDOW:]) if f.meta_auc else None,
            "accuracy": fmean(f.meta_accuracy[-WINDOW:]) if f.meta_accuracy else None,
            "examples": f.meta_examples,
        },
        "seconds": results.seconds,
        "steps": f.version,
        "tokens": f.tokens,
    }


def _each(evaluations: Mapping[str, Evaluation], name: str) -> dict[str, float | None]:
    """before and after always; the cold start's where there was one."""
    found = {when: getattr(one, name) for when, one in evaluations.items()}
    return {"before": None, **found, "after": found.get("after")}


def _baselines(judged: Sequence[Preference]) -> dict[str, float | None]:
    several = [p for p in judged if len(p.question.responses) > 1]
    return {
        "chance": chance_accuracy(judged),
        "longest_answer": longest_accuracy(several) if several else None,
        "shortest_answer": shortest_accuracy(several) if several else None,
    }


def _scaling(row: TableRow) -> dict[str, Any]:
    """{figure: {value, low, high, rows}} of a policy that was polled."""
    return {name: _figure(figure) for name, figure in row.figures.items()}


def _figure(figure: Figure) -> dict[str, float]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "rows": figure.rows}
