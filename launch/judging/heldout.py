"""Held-out evaluation through the same actors: the rollout actors judge, the reward actor grades.

Greedy, one judgement a preference, one policy version; the prompts of a run are the same at every evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import ray

from actors.reward import Grade, Judged
from actors.vllm_engine import Request
from configs.schema import Config
from launch.cluster.stage_actors import StageActors
from launch.monitoring.tracker import SampleJudgement
from launch.setup.prompt_source import Draft

When = Literal["before", "cold_start", "during", "after"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """accuracy, parse_rate: 0..1 over `rows`; an unparsable judgement counts as wrong. tokens: mean a judgement."""

    when: When
    version: int
    rows: int
    accuracy: float
    parse_rate: float
    tokens: float
    grades: tuple[Grade, ...]

    def metrics(self) -> dict[str, float]:
        return {
            "eval/version": self.version,
            "eval/accuracy@1": self.accuracy,
            "eval/parse_rate@1": self.parse_rate,
        }

    def row(self) -> dict[str, Any]:
        """Without the judgements: what a run that goes on needs of it."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "grades"}

    def samples(self, count: int) -> list[SampleJudgement]:
        """The first `count` judgements, the same preferences at every evaluation."""
        return [_sample(self.when, self.version, grade) for grade in self.grades[:count]]


class Evaluating:
    """An evaluation under way on the rollout actors that are ready, of which there must be one: when every reference in `refs`
    is ready, `grade`."""

    def __init__(self, actors: StageActors, config: Config, drafts: Sequence[Draft], *, when: When, version: int) -> None:
        self.when: When = when
        self.version = version
        self._actors = actors
        self._shards = [drafts[i :: len(actors.rollouts)] for i in range(len(actors.rollouts))]
        self.refs: list[Any] = [
            actor.judge.remote([_greedy(draft, config) for draft in shard], version)
            for actor, shard in zip(actors.rollouts, self._shards, strict=True)
        ]

    def grade(self) -> Any:
        """The reference of the grades, once every reference in `refs` is ready."""
        judged = [
            Judged(preference=draft.preference, permutation=draft.permutation, completion=completions[0])
            for shard, answers in zip(self._shards, ray.get(self.refs), strict=True)
            for draft, completions in zip(shard, answers, strict=True)
        ]
        return self._actors.reward.grade.remote(judged)

    def result(self, grades: Sequence[Grade]) -> Evaluation:
        rows = len(grades)
        return Evaluation(
            when=self.when,
            version=max(grade.version for grade in grades),  # newer than asked for, or older after a learner's crash
            rows=rows,
            accuracy=sum(grade.right for grade in grades) / rows,
            parse_rate=sum(not grade.failure for grade in grades) / rows,
            tokens=sum(grade.tokens for grade in grades) / rows,
            grades=tuple(grades),
        )


def evaluate(actors: StageActors, config: Config, drafts: Sequence[Draft], *, when: When, version: int) -> Evaluation:
    """Judge and grade, waiting for it. TimeoutError after `waits.judge_s`."""
    limit, what = config.waits.judge_s, f"the {when} evaluation of {len(drafts)} preferences (waits.judge_s)"

    def once() -> Evaluation:
        evaluating = Evaluating(actors, config, drafts, when=when, version=version)
        actors.answers(evaluating.refs, limit_s=limit, what=what)
        (grades,) = actors.answers([evaluating.grade()], limit_s=limit, what=what)
        return evaluating.result(grades)

    return actors.persist(once)


def _greedy(draft: Draft, config: Config) -> Request:
    return Request(token_ids=draft.token_ids, samples=1, temperature=0.0, max_new_tokens=config.rollout.max_new_tokens)


def _sample(when: When, version: int, grade: Grade) -> SampleJudgement:
    """In shown order, as the policy's own words number the responses."""
    order = grade.permutation
    return SampleJudgement(
        when=when,
        version=version,
        preference=grade.preference,
        query=grade.query,
        responses=tuple(grade.responses[own] for own in order),
        label=order.index(grade.label) if len(order) > 1 else grade.label,
        principles=grade.principles,
        critique=grade.critique,
        scores=tuple(grade.scores[own] for own in order) if grade.scores else (),
        reward=grade.reward,
        failure=grade.failure,
        completion=grade.text if grade.failure else "",
    )
