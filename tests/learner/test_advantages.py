import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.advantages import ADVANTAGES, centred, normalised


def test_worked_example() -> None:
    # mean 0, deviations 1, 1, -1, -1, so the unbiased variance is 4 / 3
    std = math.sqrt(4 / 3)
    assert normalised([1, 1, -1, -1]) == pytest.approx([1 / std, 1 / std, -1 / std, -1 / std], abs=1e-5)
    # mean -1/2, deviations 3/2, -1/2 (three times): variance (9/4 + 3/4) / 3 = 1, so they are the advantages
    assert normalised([1, -1, -1, -1]) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    assert centred([1, 1, -1, -1]) == (1, 1, -1, -1)
    assert centred([1, -1, -1, -1]) == (1.5, -0.5, -0.5, -0.5)


@pytest.mark.parametrize("name", ADVANTAGES)
@pytest.mark.parametrize("reward", [1.0, -1.0, 0.1])
def test_equal_rewards_have_no_advantage(reward: float, name: str) -> None:
    assert ADVANTAGES[name]([reward] * 3) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_one_reward_cannot_be_compared(name: str) -> None:
    with pytest.raises(ValueError, match=r"rollout\.samples"):
        ADVANTAGES[name]([1.0])


@pytest.mark.parametrize("name", ADVANTAGES)
@given(rewards=st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=16))
def test_they_sum_to_zero_and_order_like_the_rewards(rewards: list[float], name: str) -> None:
    advantages = ADVANTAGES[name](rewards)
    assert sum(advantages) == pytest.approx(0, abs=1e-9)
    for reward, advantage in zip(rewards, advantages, strict=True):
        assert advantage * reward >= 0
