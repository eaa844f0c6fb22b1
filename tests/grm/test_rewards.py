"""The rule reward by its formula, and the judges without a model."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.judgement import unshuffle
from grm.preferences import Preference, Question
from grm.rewards import chance_accuracy, longest_accuracy, rule_reward, shortest_accuracy


@pytest.mark.parametrize(
    ("scores", "label", "reward"),
    [
        ((9, 2), 0, 1.0),
        ((9, 2), 1, -1.0),
        ((5, 5), 0, -1.0),  # a tie for the best is wrong
        ((7, 9, 7, 1), 1, 1.0),  # ties among the others do not matter
        ((7, 9, 9, 1), 1, -1.0),
        (None, 0, -1.0),
        ((1,), 1, 1.0),
        ((0,), 0, 1.0),
        ((0,), 1, -1.0),
        ((1,), 0, -1.0),
    ],
)
def test_by_hand(scores: tuple[int, ...] | None, label: int, reward: float) -> None:
    assert rule_reward(scores, label, len(scores) if scores else 2) == reward


@given(scores=st.lists(st.integers(1, 10), min_size=2, max_size=6), pick=st.integers(0, 5), seed=st.integers())
def test_the_order_shown_does_not_matter(scores: list[int], pick: int, seed: int) -> None:
    n, label = len(scores), pick % len(scores)
    permutation = random.Random(seed).sample(range(n), n)
    shown = [scores[own] for own in permutation]
    assert rule_reward(unshuffle(shown, permutation), label, n) == rule_reward(scores, label, n)
    # The paper's formula, word by word, over the shown order.
    j = permutation.index(label)
    strict = all(shown[j] > shown[i] for i in range(n) if i != j)
    assert rule_reward(scores, label, n) == (1.0 if strict else -1.0)


@given(scores=st.lists(st.integers(1, 10), min_size=2, max_size=6))
def test_at_most_one_label_is_rewarded(scores: list[int]) -> None:
    rewards = [rule_reward(scores, label, len(scores)) for label in range(len(scores))]
    assert rewards.count(1.0) == (scores.count(max(scores)) == 1)


def test_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match=r"label 2 is not in 0\.\.1"):
        rule_reward((1, 2), 2, 2)
    with pytest.raises(ValueError, match="3 scores for 2"):
        rule_reward((1, 2, 3), 0, 2)


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
