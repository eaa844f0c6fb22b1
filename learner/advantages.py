"""Group-relative advantages of GRPO (pure, standard library)."""

from collections.abc import Callable, Sequence
from statistics import fmean

STD_FLOOR = 1e-6  # added to the standard deviation, in units of reward

Advantages = Callable[[Sequence[float]], tuple[float, ...]]
"""Returns the advantage of each completion of one group, from its G >= 2 rewards. They sum to zero up to rounding and are
exactly 0 where all rewards are equal. ValueError for fewer than two rewards, for which no comparison exists."""


def normalised(rewards: Sequence[float]) -> tuple[float, ...]:
    """Return A_i = (r_i - mean r) / (std r + 1e-6), the paper's (`advantages: normalised`).

    The standard deviation is the *unbiased* one (divisor G - 1), which is what `torch.std` gives and therefore
    what TRL, verl and OpenRLHF train with; the population choice would scale every advantage by sqrt(G / (G - 1)).
    """
    differences = centred(rewards)
    std = (sum(difference**2 for difference in differences) / (len(rewards) - 1)) ** 0.5
    return tuple(difference / (std + STD_FLOOR) for difference in differences)


def centred(rewards: Sequence[float]) -> tuple[float, ...]:
    """Return A_i = r_i - mean r, as in Dr. GRPO (arXiv:2503.20783; `advantages: centred`).

    Without the division a group in which one of G differs does not weigh more than one that is half right.
    """
    if len(rewards) < 2:
        raise ValueError(f"a group needs at least 2 rewards to be compared, got {len(rewards)}: raise rollout.samples")
    if max(rewards) == min(rewards):
        return (0.0,) * len(rewards)
    mean = fmean(rewards)
    return tuple(reward - mean for reward in rewards)


ADVANTAGES: dict[str, Advantages] = {"normalised": normalised, "centred": centred}
