"""The rule reward by its formula."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.judgement import unshuffle
from grm.rewards import rule_reward


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
