"""summary.json: what came of a run, as far as it came."""

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
    """What came of the stages, filled as they end."""

    judged: Sequence[Preference]
    """The held-out preferences."""
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    """By when."""
    votes: dict[str, TableRow] = field(default_factory=dict)
    """The counted votes, by when."""
    cold_start: dict[str, Any] = field(default_factory=dict)
    """Verdicts, examples and steps of the cold start."""
    training: RunTotals = field(default_factory=RunTotals)
    """Totals of online RL."""


def summary(config: Config, results: RunResults, *, run_id: str, preset: str, finished: Finished) -> dict[str, Any]:
    """Returns the whole of summary.json; None where there is no figure."""
    totals = results.training
    return {
        "run_id": run_id,
        "preset": preset,
        "seed": config.run.seed,
        "finished": finished,
        "accuracy": _each(results.evaluations, "accuracy"),
        "parse_rate": _each(results.evaluations, "parse_rate"),
        "strict_parse_rate": _each(results.evaluations, "strict_parse_rate"),
        "consistency": _each(results.evaluations, "consistency"),
        "baselines": _baselines(results.judged),
        "heldout": {"rows": len(results.judged), "n": sorted(Counter(len(p.question.responses) for p in results.judged))},
        "votes": {when: _scaling(row) for when, row in results.votes.items()},
        "cold_start": results.cold_start,
        "staleness": {
            "max": totals.staleness_max if totals.steps else None,
            "mean": totals.staleness_sum / totals.steps if totals.steps else None,
            "bound": config.grpo.max_staleness,
        },
        "groups": totals.outcomes,
        "restarts": totals.restarts,
        "reward": {"first": totals.first_reward, "last": totals.last_reward},
        "idle": {
            "learner": totals.learner_idle_s / totals.learner_s if totals.learner_s else None,
            "rollout": totals.rollout_idle_s / totals.rollout_s if totals.rollout_s else None,
        },
        "meta_rm": {
            "auc": fmean(totals.meta_auc[-WINDOW:]) if totals.meta_auc else None,
            "auc_within": fmean(totals.meta_auc_within[-WINDOW:]) if totals.meta_auc_within else None,
            "accuracy": fmean(totals.meta_accuracy[-WINDOW:]) if totals.meta_accuracy else None,
            "examples": totals.meta_examples,
        },
        "seconds": totals.seconds,
        "steps": totals.version,
        "tokens": totals.tokens,
    }


def accuracy_line(values: Mapping[str, Any]) -> str:
    """Returns the line of a summary that people look for first, with its end; "" where nothing was evaluated."""
    known = [f"{when.replace('_', ' ')} {value:.1%}" for when, value in values["accuracy"].items() if value is not None]
    chance = values["baselines"]["chance"]
    return f"accuracy   {', '.join(known)} (chance {chance:.1%})\n" if known else ""


def _each(evaluations: Mapping[str, Evaluation], name: str) -> dict[str, float | None]:
    """Returns a figure by when: before and after always; the cold start's where there was one."""
    by_when = {when: getattr(evaluation, name) for when, evaluation in evaluations.items()}
    return {"before": None, **by_when, "after": by_when.get("after")}


def _baselines(judged: Sequence[Preference]) -> dict[str, float | None]:
    """Returns the accuracy of judges without a model, over the preferences that an accuracy is over (n >= 2)."""
    several = [p for p in judged if len(p.question.responses) > 1]
    return {
        "chance": chance_accuracy(several) if several else None,
        "longest_answer": longest_accuracy(several) if several else None,
        "shortest_answer": shortest_accuracy(several) if several else None,
    }


def _scaling(row: TableRow) -> dict[str, Any]:
    """Returns {figure: {value, low, high, rows}} of a policy that voted."""
    return {name: _figure(figure) for name, figure in row.figures.items()}


def _figure(figure: Figure) -> dict[str, float]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "rows": figure.rows}
