"""The rules of rejective fine-tuning, by hand and over all outcomes."""

from itertools import product

import pytest

from grm.rejection import (
    VERDICTS,
    Verdict,
    given_verdicts,
    hinted_verdicts,
    is_kept,
    plain_verdicts,
    without_rambling,
)
from grm.rewards import rule_reward


@pytest.mark.parametrize(
    ("rewards", "verdicts"),
    [
        ((1, 1, 1), ("too_easy", "too_easy", "too_easy")),
        ((1, -1, 1), ("kept", "wrong", "kept")),
        ((-1, -1, 1), ("wrong", "wrong", "kept")),
        ((-1, -1, -1), ("wrong", "wrong", "wrong")),
        ((0, 1), ("wrong", "kept")),  # above 0 is right, 0 is not
        ((1,), ("too_easy",)),
        ((), ()),
    ],
)
def test_plain_judgements(rewards: tuple[float, ...], verdicts: tuple[Verdict, ...]) -> None:
    assert plain_verdicts(rewards) == verdicts


def test_of_a_teachers_file_a_lone_right_judgement_is_kept() -> None:
    assert given_verdicts((1,)) == ("kept",)
    assert given_verdicts((-1,)) == ("wrong",)
    assert given_verdicts((1, 1)) == ("too_easy", "too_easy")
    assert given_verdicts((1, -1)) == ("kept", "wrong")


def test_hinted_judgements_are_never_too_easy() -> None:
    assert hinted_verdicts((1,)) == ("hinted_kept",)
    assert hinted_verdicts((1, -1, 1)) == ("hinted_kept", "hinted_wrong", "hinted_kept")
    assert hinted_verdicts(()) == ()


def test_an_unparsable_judgement_is_wrong_and_keeps_the_others() -> None:
    rewards = [rule_reward(scores, 0, 2) for scores in ((9, 2), None, (5, 5))]
    assert plain_verdicts(rewards) == ("kept", "wrong", "wrong")


@pytest.mark.parametrize("rewards", product((1.0, -1.0), repeat=3))
def test_what_is_kept_is_right_and_never_everything(rewards: tuple[float, ...]) -> None:
    kept = [is_kept(verdict) for verdict in plain_verdicts(rewards)]
    assert not all(kept)
    assert kept == [reward > 0 and min(rewards) < 0 for reward in rewards]
    assert [is_kept(verdict) for verdict in hinted_verdicts(rewards)] == [reward > 0 for reward in rewards]


def test_what_would_be_kept_is_not_when_it_rambles() -> None:
    verdicts = plain_verdicts((1, -1, 1)) + hinted_verdicts((1, 1, -1))
    rambles = (True, True, False, True, False, True)
    assert without_rambling(verdicts, rambles) == ("rambling", "wrong", "kept", "rambling", "hinted_kept", "hinted_wrong")
    assert without_rambling(plain_verdicts((1, 1)), (True, True)) == ("too_easy", "too_easy")


def test_two_verdicts_keep() -> None:
    assert VERDICTS == ("kept", "wrong", "too_easy", "hinted_kept", "hinted_wrong", "rambling")
    assert [verdict for verdict in VERDICTS if is_kept(verdict)] == ["kept", "hinted_kept"]
