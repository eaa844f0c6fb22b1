"""The judges without a model, by worked numbers."""

import pytest

from grm.baselines import chance_accuracy, longest_accuracy, shortest_accuracy
from grm.preferences import Preference, Question


def pair(first: str, second: str, label: int) -> Preference:
    return Preference(question=Question(id=first + second, query="q", responses=(first, second)), label=label)


def test_length_baselines() -> None:
    preferences = [pair("long", "s", 0), pair("long", "s", 1), pair("long", "s", 0), pair("xy", "zw", 1)]
    assert longest_accuracy(preferences) == (1 + 0 + 1 + 0.5) / 4
    assert shortest_accuracy(preferences) == (0 + 1 + 0 + 0.5) / 4


def test_chance() -> None:
    four = Preference(question=Question(id="4", query="q", responses=("a", "b", "c", "d")), label=0)
    one = Preference(question=Question(id="1", query="q", responses=("a",)), label=0)
    assert chance_accuracy([four, one, pair("a", "b", 0)]) == pytest.approx((0.25 + 0.5 + 0.5) / 3)


def test_baselines_refuse_nothing_and_single_responses() -> None:
    one = Preference(question=Question(id="1", query="q", responses=("a",)), label=0)
    with pytest.raises(ValueError, match="no preferences"):
        chance_accuracy([])
    with pytest.raises(ValueError, match="one response"):
        longest_accuracy([one])
