"""Estimators of KL(pi_theta || pi_ref) per token from one sampled token each (pure torch).

With d = pi_ref - pi_theta (log-probs of the token), Schulman's k3 = exp(d) - d - 1 is never negative and has the right mean
where pi_theta sampled. As a *loss* it has another gradient than the divergence: 1 - exp(d) is, in expectation, the gradient of
the *forward* KL(pi_ref || pi_theta). That is what GRPO has (arXiv:2402.03300) and what `k3` gives. DeepSeek-V3.2
(arXiv:2512.02556, eq. 7) multiplies by the importance ratio and lets its gradient count, which makes value and gradient
those of KL(pi_theta || pi_ref); that is `unbiased`. (TRL 1.16 has the same as `use_bias_correction_kl`, without w.)

With w = r both are exact whoever sampled. A bound on r is felt here as in the policy term: what a correction truncates counts
for less, and what it masks (w = 0) has no KL either, in the loss and in `loss/kl`: of a token on which the engines disagree
nothing is learnt. `k3` keeps the KL of all tokens.

Both are limited as in verl (`low_var_kl`): d to +-20, the value to 10, so that no token can make a batch infinite.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from learner.corrections import Corrected, log_ratio

K3_LIMIT = 10.0  # nats

Estimator = Callable[[Tensor, Tensor, Corrected], Tensor]
"""Returns the estimate per token, [T], of (log pi_theta with gradient, log pi_ref, what the correction made of the tokens)."""


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """Return min(exp(d) - d - 1, 10) per token with d = reference - new within +-20; >= 0.

    Where the limit holds (d above 2.61 or below -11) the gradient is 0, as in verl: such a token pulls no more.
    """
    difference = log_ratio(reference, new)
    return (torch.expm1(difference) - difference).clamp(max=K3_LIMIT)


def plain(new: Tensor, reference: Tensor, corrected: Corrected) -> Tensor:
    """Return k3: neither the ratio nor the weight of the correction counts (`kl: k3`)."""
    del corrected
    return k3(new, reference)


def unbiased(new: Tensor, reference: Tensor, corrected: Corrected) -> Tensor:
    """Return w * rho * k3, with the gradient of k3 *and* of rho: together -w * rho * d (`kl: unbiased`).

    In its gradient, w * rho * (k3 + 1 - exp(d)), the exponentials cancel. It is taken in that short form, from d within +-20:
    so it keeps its digits where exp(d) is large, and its sign where the limit of the value holds (k3 limited to 10 and then
    differentiated would push a token down that the reference likes much better than the policy).
    """
    factor = corrected.weight * corrected.ratio
    slope = -factor * log_ratio(reference, new).detach()
    return (factor * k3(new, reference)).detach() + slope - slope.detach()


ESTIMATORS: dict[str, Estimator] = {"unbiased": unbiased, "k3": plain}
