"""Rule rewards, and the judges without a model that every result stands beside. Pure functions."""

from collections.abc import Sequence

from grm.preferences import Preference
from grm.voting import credit

CORRECT, WRONG = 1.0, -1.0


def rule_reward(scores: Sequence[int] | None, label: int, n: int) -> float:
    """+1 if the scores agree with the label, else -1 (arXiv:2504.02495, rule-based online RL).

        n >= 2:  S_j > S_i for all i != j, where j is the label: a tie for the best is wrong
        n = 1:   S_1 = r_1, where r_1 in {0, 1} is the label

    scores: n integers in the preference's own order, or None for an unparsable completion, which is wrong.
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


def chance_accuracy(preferences: Sequence[Preference]) -> float:
    """Expected accuracy of a blind guess, 0..1: the mean of 1/n, and of 1/2 (right or wrong) for n = 1."""
    return _mean([1 / max(2, len(preference.question.responses)) for preference in preferences])


def longest_accuracy(preferences: Sequence[Preference]) -> float:
    """Expected accuracy, 0..1, of calling the longest response best, at random among equally long ones."""
    return _mean([credit(_lengths(p), p.label).split for p in preferences])


def shortest_accuracy(preferences: Sequence[Preference]) -> float:
    """Expected accuracy, 0..1, of calling the shortest response best, at random among equally short ones."""
    return _mean([credit([-length for length in _lengths(p)], p.label).split for p in preferences])


def _lengths(preference: Preference) -> list[int]:
    """Characters of each response, n >= 2."""
    lengths = [len(response) for response in preference.question.responses]
    if len(lengths) == 1:
        raise ValueError(f"preference {preference.question.id!r} has one response, so no longest one")
    return lengths


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("no preferences to take the accuracy of")
    return sum(values) / len(values)
