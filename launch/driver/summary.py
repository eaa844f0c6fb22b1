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
from launch.monitoring.records import Record, values

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


def summary(
    config: Config, results: RunResults, records: Sequence[Record], *, run_id: str, finished: Finished
) -> dict[str, Any]:
    """Returns the whole of summary.json; None where there is no figure.

    Args:
        config: The run's.
        results: What came of its stages.
        records: Its metrics. What is said of steps is of those behind the last weights, however often they were taken.
        run_id: Its id.
        finished: How it ended.
    """
    totals = results.training
    staleness, rewards = values(records, "staleness/mean"), values(records, "reward/mean")
    return {
        "run_id": run_id,
        "preset": totals.preset,
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
            "max": totals.staleness_max if staleness else None,
            "mean": fmean(staleness) if staleness else None,
            "bound": config.grpo.max_staleness,
        },
        "groups": totals.outcomes,
        "restarts": totals.restarts,
        "reward": _ends(rewards),
        "idle": {
            "learner": totals.learner_idle_s / totals.learner_s if totals.learner_s else None,
            "rollout": totals.rollout_idle_s / totals.rollout_s if totals.rollout_s else None,
        },
        "meta_rm": {
            "auc": _last_mean(records, "meta_rm/auc"),
            "auc_within": _last_mean(records, "meta_rm/auc_within"),
            "accuracy": _last_mean(records, "meta_rm/accuracy"),
            "examples": totals.meta_examples,
        },
        "seconds": totals.seconds,
        "steps": totals.version,
        "tokens": totals.tokens,
    }


def accuracy_line(summary: Mapping[str, Any]) -> str:
    """Returns the line of a summary that people look for first, with its end; "" where nothing was evaluated."""
    known = [f"{when.replace('_', ' ')} {value:.1%}" for when, value in summary["accuracy"].items() if value is not None]
    chance = summary["baselines"]["chance"]
    return f"accuracy   {', '.join(known)} (chance {chance:.1%})\n" if known else ""


def _ends(rewards: Sequence[float]) -> dict[str, float | None]:
    """Returns the mean reward of the first tenth of the steps and of the last: one step alone says little.

    >>> _ends([-1.0, 0.0, 0.5, 1.0])
    {'first': -1.0, 'last': 1.0}
    """
    tenth = max(1, len(rewards) // 10)
    return {"first": fmean(rewards[:tenth]) if rewards else None, "last": fmean(rewards[-tenth:]) if rewards else None}


def _last_mean(records: Sequence[Record], name: str) -> float | None:
    """Returns the mean of a metric over its last steps."""
    last = values(records, name)[-WINDOW:]
    return fmean(last) if last else None


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
