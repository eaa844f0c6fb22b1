"""What NeMo-Gym's agents ask of a resources server at the end of a collection of rollouts: means of their rewards (pure).

answers of /verify ─▶ those that were judged, by task ─▶ group_level_metrics, agent_metrics, key_metrics
"""

import statistics
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pydantic import BaseModel

from launch.serving.errors import BadRequest

TASK = "_ng_task_index"


class AggregateRequest(BaseModel):
    """Answers of `/verify`, at the end of a collection of rollouts."""

    verify_responses: list[dict[str, Any]]
    """Each with `reward`, its task and, where it was not judged, the mask fields."""


class Aggregated(BaseModel):
    """What `/aggregate_metrics` answers."""

    group_level_metrics: list[dict[str, Any]]
    """Of each task."""
    agent_metrics: dict[str, float]
    """Of all rollouts."""
    key_metrics: dict[str, float]
    """Those of them that stand for all."""


def aggregated(rows: Sequence[Mapping[str, Any]]) -> Aggregated:
    """Returns means of the rewards that were judged: a masked row's 0 fills a place, and is in none of them.

    Raises:
        BadRequest: A reward is no number.
    """
    tasks: dict[Any, list[float]] = {}
    masked_rows = 0
    for number, row in enumerate(rows):
        reward: Any = row.get("reward")
        task = row.get(TASK)
        if type(reward) not in (int, float) or not isfinite(reward) or not isinstance(task, int | str | None):
            field = f"verify_responses.{number}"
            raise BadRequest(f"{field}: give a number as reward, and a number or a text as {TASK}", field=field)
        of_task = tasks.setdefault(task, [])
        if row.get("mask_sample") is True or "_ng_failure_class" in row:
            masked_rows += 1
        else:
            of_task.append(float(reward))
    judged = [each for rewards in tasks.values() for each in rewards]
    groups = [{TASK: task, "rollouts": len(rewards), **_spread(rewards)} for task, rewards in tasks.items()]
    whole = _spread(judged)
    counts = {"rollouts": float(len(rows)), "rollouts_masked": float(masked_rows)}
    return Aggregated(
        group_level_metrics=groups,
        agent_metrics=whole | counts,
        key_metrics={name: whole[name] for name in ("mean/reward",) if name in whole},
    )


def _spread(rewards: Sequence[float]) -> dict[str, float]:
    if not rewards:
        return {}
    found = {
        "mean": statistics.fmean(rewards),
        "median": statistics.median(rewards),
        "min": min(rewards),
        "max": max(rewards),
        "std": statistics.pstdev(rewards),
    }
    return {f"{name}/reward": value for name, value in found.items()}
