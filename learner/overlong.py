"""What becomes of completions that were cut at the token limit, or came near it (pure, standard library).

Each function takes one group: the reward, the tokens and whether it was cut of each completion, and the largest length.
It returns the rewards that advantages are computed from and the trained tokens of each completion, 0 where it is left out.
"""

from collections.abc import Callable, Sequence

Overlong = Callable[[Sequence[float], Sequence[int], Sequence[bool], int], tuple[list[float], list[int]]]

PENALISED_SHARE = 0.2  # of the longest completion; DAPO: the last 4096 of 20480 tokens


def keep(
    rewards: Sequence[float], lengths: Sequence[int], truncated: Sequence[bool], limit: int
) -> tuple[list[float], list[int]]:
    """Train on them like on others, as the paper does (`overlong: keep`)."""
    del truncated, limit
    return list(rewards), list(lengths)


def mask(
    rewards: Sequence[float], lengths: Sequence[int], truncated: Sequence[bool], limit: int
) -> tuple[list[float], list[int]]:
    """Leave out what was cut, as TRL's `mask_truncated_completions` and DAPO's overlong filtering (`overlong: mask`).

    Their rewards still count in the group's mean and deviation. In the divisors of the loss they count as TRL counts them: as a
    completion (`normalise: sequence` and `constant`), not as tokens (`token`).
    """
    del limit
    return list(rewards), [0 if cut else length for length, cut in zip(lengths, truncated, strict=True)]


def penalty(
    rewards: Sequence[float], lengths: Sequence[int], truncated: Sequence[bool], limit: int
) -> tuple[list[float], list[int]]:
    """Lower the reward of what is near the limit, as DAPO's soft overlong punishment (eq. 13; `overlong: penalty`).

    With |y| tokens, L the limit and c = L / 5 the penalised part: nothing up to L - c, then ((L - c) - |y|) / c, so -1 at L.
    What was cut has the rule's -1 already, so it has -2. No one else reads these rewards: which groups are informative
    (`grpo.filter`), right or wrong, the rule alone says, as DAPO filters by accuracy.
    """
    del truncated
    part = PENALISED_SHARE * limit
    punished = [reward + min(0.0, (limit - part - length) / part) for reward, length in zip(rewards, lengths, strict=True)]
    return punished, list(lengths)


OVERLONG: dict[str, Overlong] = {"keep": keep, "mask": mask, "penalty": penalty}
