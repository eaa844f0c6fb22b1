import pytest

from learner.overlong import keep, mask, penalty

REWARDS, LENGTHS, CUT = [1.0, -1.0, 1.0, -1.0], [80, 90, 100, 100], [False, False, False, True]


def test_keeping_changes_nothing() -> None:
    assert keep(REWARDS, LENGTHS, CUT, 100) == (REWARDS, LENGTHS)


def test_what_was_cut_is_left_out_and_its_reward_still_counts() -> None:
    assert mask(REWARDS, LENGTHS, CUT, 100) == (REWARDS, [80, 90, 100, 0])


def test_the_last_fifth_before_the_limit_is_punished() -> None:
    # L = 100, c = 20: nothing up to 80, half of it at 90, 1 at 100
    rewards, lengths = penalty(REWARDS, LENGTHS, CUT, 100)
    assert rewards == pytest.approx([1, -1.5, 0, -2])
    assert lengths == LENGTHS
