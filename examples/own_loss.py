"""Two parts of the loss of one's own: an advantage and a correction, a function each.

    python launch/run.py --config tiny grpo.advantages=examples/own_loss.py:leave_one_out
    python launch/run.py --config tiny grpo.correction=examples/own_loss.py:tempered grpo.ratio_high=2

An advantage takes the rewards of a group and returns a number for each. A correction takes the tokens of a micro-batch and the
bounds of the ratio, and returns an objective for each token: `learner/corrections.py` has ours, which these may call.
"""

from collections.abc import Sequence

import torch

from learner.corrections import Corrected, SampledTokens, log_ratio, weighted


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """Returns each reward minus the mean of the others (RLOO, arXiv:2402.14740)."""
    total, others = sum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]


def tempered(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Weigh each token by the square root of its ratio, cut to the bounds: less variance than the ratio, and some bias."""
    root = torch.exp(0.5 * log_ratio(tokens.old, tokens.behaviour))
    return weighted(tokens, root.clamp(low, high), (root < low) | (root > high))
