"""A reward rule of the user's own: a function in a file, named by `grpo.reward` (`grm.own_functions`).

    def reward(judged: JudgedCompletion) -> float: ...

A reward above 0 counts as right: for the cold start, which keeps such judgements, and for the meta-RM, which learns them.
The file is imported, so it is trusted like the program.
"""

from collections.abc import Callable, Iterator
from functools import cache
from math import isfinite
from typing import Any

from grm.own_functions import RuleError, called, load_function
from grm.rewards import JudgedCompletion, Rule, paper_rule

SAMPLE = (
    JudgedCompletion(
        scores=(9, 2), label=0, n=2, completion="Analysis: 1 is right.\nScores: \\boxed{9, 2}", critique="1 is right."
    ),
    JudgedCompletion(scores=(2, 9, 5), label=0, n=3, completion="Scores: \\boxed{2, 9, 5}"),
    JudgedCompletion(scores=(5, 5), label=1, n=2, completion="Scores: \\boxed{5, 5}"),
    JudgedCompletion(scores=(1,), label=1, n=1, completion="Scores: \\boxed{1}"),
    JudgedCompletion(scores=None, label=0, n=2, completion="I cannot tell.", failure="no_scores"),
)
"""Completions that a rule is tried on before a run: right, wrong, tied, of a single response, unparsable."""


@cache
def load_rule(named: str) -> Rule:
    """Return the rule of FILE.py:FUNCTION, whose results are checked; `paper_rule` for "". RuleError as of `load_function`."""
    if not named:
        return paper_rule
    rule = load_function(named, "a JudgedCompletion")

    def checked(judged: JudgedCompletion) -> float:
        return _reward(rule, named, judged)

    return checked


def try_rule(named: str) -> list[str]:
    """Try a rule on `SAMPLE`. Returns what is odd about it and may be meant, a sentence each.

    Raises:
        RuleError: It cannot be loaded, it raises, or what it returns is no finite number.
    """
    rule = load_rule(named)
    return [f"grpo.reward: {named} {sentence}" for sentence in _odd(rule)]


def _odd(rule: Rule) -> Iterator[str]:
    rewards = [rule(judged) for judged in SAMPLE]
    if len(set(rewards)) == 1:
        yield f"returns {rewards[0]} for every one of {len(SAMPLE)} different completions: nothing would be learnt"
    for judged, reward in zip(SAMPLE, rewards, strict=True):
        right = paper_rule(judged) > 0
        if (reward > 0) != right:
            yield (
                f"returns {reward} for scores {judged.scores} with label {judged.label}, which are"
                f" {'right' if right else 'wrong'}: above 0 counts as right, for the cold start and the meta-RM"
            )


def _reward(rule: Callable[..., Any], named: str, judged: JudgedCompletion) -> float:
    reward = called(rule, named, judged, shown=judged)
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not isfinite(reward):
        raise RuleError(f"{named}: it returned {reward!r}, which is no finite number; for {judged}")
    return float(reward)
