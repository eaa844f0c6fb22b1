"""The rule reward of a completion, and what a judgement picks. Pure functions.

A *rule* maps a `JudgedCompletion` to a reward: `paper_rule`, or one of the user's own (`grm/own_rules.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

CORRECT, WRONG = 1.0, -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCompletion:
    """A completion of the policy as a reward rule sees it."""

    scores: tuple[float, ...] | None
    """n scores in the preference's own order; None for an unparsable completion."""
    label: int
    """n >= 2: index of the best response; n = 1: 1 right, 0 wrong."""
    n: int
    """Number of responses."""
    completion: str
    """What the policy wrote."""
    principles: str = ""
    """Text of that section; "" if it is absent."""
    critique: str = ""
    """Text of that section; "" if it is absent."""
    failure: str = ""
    """Why it is unparsable (`grm.judgement.Reason`); "" where it is not."""


Rule = Callable[[JudgedCompletion], float]


def paper_rule(judged: JudgedCompletion) -> float:
    """Return `rule_reward` of a completion."""
    return rule_reward(judged.scores, judged.label, judged.n)


def rule_reward(scores: Sequence[float] | None, label: int, n: int) -> float:
    """Return +1 if the scores agree with the label, else -1 (arXiv:2504.02495, rule-based online RL).

        n >= 2:  S_j > S_i for all i != j, where j is the label: a tie for the best is wrong
        n = 1:   S_1 = r_1, where r_1 in {0, 1} is the label

    Args:
        scores: n scores in the preference's own order, or None for an unparsable completion, which is wrong.
        label: n >= 2: index of the best response; n = 1: 1 right, 0 wrong.
        n: Number of responses.
    """
    if not 0 <= label < max(2, n):
        raise ValueError(f"label {label} is not in 0..{max(2, n) - 1}")
    if scores is None:
        return WRONG
    if len(scores) != n:
        raise ValueError(f"{len(scores)} scores for {n} responses")
    if n == 1:
        return CORRECT if scores[0] == label else WRONG
    return CORRECT if all(scores[label] > score for i, score in enumerate(scores) if i != label) else WRONG


def pick(scores: Sequence[float] | None) -> int | None:
    """Return the index of the one highest score; None for a tie, for a single response, and where there are no scores.

    For n >= 2 the rule's reward is +1 where this is the label.
    """
    if scores is None or len(scores) == 1 or scores.count(max(scores)) > 1:
        return None
    return scores.index(max(scores))
