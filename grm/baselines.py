"""Judges without a model, to compare every result with: chance, the longest and the shortest response. Pure functions.

Accuracies are 0..1; a tie for the longest or shortest response is split among the tied.
"""

from collections.abc import Sequence

from grm.preferences import Preference
from grm.voting import credit


def chance(n: int) -> float:
    """Return the expected accuracy of a blind guess among n responses: 1/n, and 1/2 (right or wrong) for n = 1."""
    return 1 / max(2, n)


def longest(lengths: Sequence[int], label: int) -> float:
    """Return the accuracy of choosing the longest of n >= 2 responses, given their lengths."""
    return credit(lengths, label).split


def shortest(lengths: Sequence[int], label: int) -> float:
    """Return the accuracy of choosing the shortest of n >= 2 responses, given their lengths."""
    return credit([-length for length in lengths], label).split


def chance_accuracy(preferences: Sequence[Preference]) -> float:
    """Return the mean of `chance` over preferences."""
    return _mean([chance(len(preference.question.responses)) for preference in preferences])


def longest_accuracy(preferences: Sequence[Preference]) -> float:
    """Return the mean of `longest` over preferences of n >= 2 responses."""
    return _mean([longest(_lengths(preference), preference.label) for preference in preferences])


def shortest_accuracy(preferences: Sequence[Preference]) -> float:
    """Return the mean of `shortest` over preferences of n >= 2 responses."""
    return _mean([shortest(_lengths(preference), preference.label) for preference in preferences])


def _lengths(preference: Preference) -> list[int]:
    """Return the number of characters of each response, n >= 2."""
    lengths = [len(response) for response in preference.question.responses]
    if len(lengths) == 1:
        raise ValueError(f"preference {preference.question.id!r} has one response, so no longest one")
    return lengths


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("no preferences to take the accuracy of")
    return sum(values) / len(values)
