"""Group-relative advantages of GRPO (pure, standard library)."""

from collections.abc import Sequence
from statistics import fmean

STD_FLOOR = 1e-6  # added to the standard deviation, in units of reward


def group_advantages(rewards: Sequence[float]) -> tuple[float, ...]:
    """Return the advantage of every completion of one group: A_i = (r_i - mean r) / (std r + 1e-6).

    The standard deviation is the *unbiased* one (divisor G - 1), which is what `torch.std` gives and therefore
    what TRL, verl and OpenRLHF train with; the population choice would scale every advantage by sqrt(G / (G - 1)).

    Args:
        rewards: the G rewards of one group, G >= 2.

    Returns:
        G advantages that sum to zero up to rounding; all exactly 0 when all rewards are equal (no gradient).

    Raises:
        ValueError: fewer than two rewards, for which no comparison exists.
    """
    count = len(rewards)
    if count < 2:
        raise ValueError(f"a group needs at least 2 rewards to be compared, got {count}: raise rollout.samples")
    if max(rewards) == min(rewards):
        return (0.0,) * count
    mean = fmean(rewards)
    std = (sum((reward - mean) ** 2 for reward in rewards) / (count - 1)) ** 0.5
    return tuple((reward - mean) / (std + STD_FLOOR) for reward in rewards)
