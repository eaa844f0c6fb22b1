"""Judgements to be read by people: the greedy ones of the first preferences, with what the judge wrote."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from grm import lenient
from grm.benchmarks import MIDDLE
from grm.judgement import Judgement
from grm.preferences import Preference
from grm.rewards import CORRECT, WRONG, rule_reward
from launch.judging.votes import Row, judgements
from launch.monitoring.tracker import SampleJudgement

When = Literal["before", "cold_start", "during", "after"]
WHOSE: Mapping[When, str] = {
    "before": "the base",
    "cold_start": "the policy of the cold start",
    "during": "the policy in training",
    "after": "the trained policy",
}
"""The policy that is judged then, in words."""


def sample_judgements(
    preferences: Sequence[Preference], rows: Sequence[Row], *, when: When, version: int, count: int
) -> list[SampleJudgement]:
    """Returns the greedy judgements of the first `count` preferences, each in its first order, as samples to show: the same
    ones at every evaluation."""
    pairs = list(zip(preferences, rows, strict=True))[:count]
    return [_sample(p, sample, when, version) for p, row in pairs for sample in judgements(row, "greedy")[:1]]


def _sample(preference: Preference, sample: Mapping[str, Any], when: When, version: int) -> SampleJudgement:
    """Returns it in shown order, as the policy's own words number the responses."""
    order, scores, question = sample["permutation"], sample["scores"], preference.question
    read = None if sample["failure"] else lenient.read(sample["text"], len(order), clip=True)[0]
    principles, critique = (read.principles, read.critique) if isinstance(read, Judgement) else ("", "")
    return SampleJudgement(
        when=when,
        version=version,
        preference=question.id,
        query=question.query,
        responses=tuple(question.responses[own] for own in order),
        label=list(order).index(preference.label) if len(order) > 1 else preference.label,
        principles=principles,
        critique=critique,
        scores=tuple(scores[own] for own in order) if scores else (),
        reward=_reward(scores, preference.label),
        failure=sample["failure"],
        completion="" if principles or critique else sample["text"],
    )


def _reward(scores: Sequence[float] | None, label: int) -> float:
    """Returns the rule's reward; a single response counts as judged right above the middle of the scale."""
    if scores is None:
        return WRONG
    if len(scores) == 1:
        return CORRECT if (scores[0] > MIDDLE) == (label == 1) else WRONG
    return rule_reward(scores, label, len(scores))
