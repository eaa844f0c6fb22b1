"""Rejective fine-tuning: which judgements of a preference the cold start learns from (arXiv:2504.02495). Pure functions.

    plain    N_RFT judgements per preference; the wrong ones are rejected, and all of them if all are right: too easy
    hinted   the prompt names the best response; only wrong judgements are rejected, however easy the preference is

A judgement is given as its rule reward (`grm.rewards.rule_reward`): above 0 is right; an unparsable one, or one that was cut
short, is wrong. One that rambles (`grm.judgement.Judgement.rambles`) is as right as others, but no example to imitate.
"""

from collections.abc import Sequence
from typing import Literal, get_args

Verdict = Literal["kept", "wrong", "too_easy", "hinted_kept", "hinted_wrong", "rambling"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def plain_verdicts(rewards: Sequence[float]) -> tuple[Verdict, ...]:
    """Return the verdicts on the N_RFT plain judgements of one preference, in their order.

    N_RFT = 1 keeps nothing: a lone right judgement is all of them, hence too easy.
    """
    if all(reward > 0 for reward in rewards):
        return tuple("too_easy" for _ in rewards)
    return tuple("kept" if reward > 0 else "wrong" for reward in rewards)


def given_verdicts(rewards: Sequence[float]) -> tuple[Verdict, ...]:
    """Return the verdicts on the plain judgements that a teacher's file has of one preference, in their order.

    As `plain_verdicts`, but that a lone right judgement is kept: how easy a preference is shows only in several.
    """
    if len(rewards) > 1:
        return plain_verdicts(rewards)
    return tuple("kept" if reward > 0 else "wrong" for reward in rewards)


def hinted_verdicts(rewards: Sequence[float]) -> tuple[Verdict, ...]:
    """Return the verdicts on the hinted judgements of one preference, in their order."""
    return tuple("hinted_kept" if reward > 0 else "hinted_wrong" for reward in rewards)


def is_kept(verdict: Verdict) -> bool:
    """Return whether the cold start learns from a judgement of this verdict."""
    return verdict in ("kept", "hinted_kept")


def without_rambling(verdicts: Sequence[Verdict], rambles: Sequence[bool]) -> tuple[Verdict, ...]:
    """Return the verdicts with "rambling" on those that would be kept, but went on behind their scores."""
    return tuple("rambling" if is_kept(v) and on else v for v, on in zip(verdicts, rambles, strict=True))
