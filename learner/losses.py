"""The losses, as pure functions of log-probabilities (docs/design.md).

All tensors are flat, shape [T]: one number per completion token of a micro-batch, sequence after sequence. What
normalises the loss is a coefficient per token whose divisor is a *global* count, so that summing over micro-batches
and ranks gives the loss of the whole batch:  L = sum_t c_t * L_t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from learner.corrections import Correction, SampledTokens, log_ratio
from learner.kl import Estimator, k3

Normalisation = Callable[[Sequence[int], int], list[float]]
"""Returns the coefficient of a token of each completion, from (trained tokens of each completion of the whole batch, 0 where it
is left out; longest completion there can be). Divisors are those of TRL 1.16's loss types."""


def sequence_coefficients(lengths: Sequence[int], limit: int) -> list[float]:
    """Return 1 / (N * |o_i|), N completions in the *whole* batch, those that are left out among them.

    `normalise: sequence`, the paper's GRPO: a mean over completions of the mean over their tokens. TRL: `grpo`.
    """
    del limit
    return [1.0 / (len(lengths) * length) if length else 0.0 for length in lengths]


def token_coefficients(lengths: Sequence[int], limit: int) -> list[float]:
    """Return 1 / (sum of the trained tokens of the *whole* batch).

    `normalise: token`: a mean over all tokens, as in DAPO (arXiv:2503.14476). TRL: `dapo`, and `bnpo` in a single micro-batch.
    """
    del limit
    total = sum(lengths)
    return [1.0 / total if length else 0.0 for length in lengths]


def constant_coefficients(lengths: Sequence[int], limit: int) -> list[float]:
    """Return 1 / (N * limit), N completions in the *whole* batch, those that are left out among them.

    `normalise: constant`: no length in a divisor, as in Dr. GRPO (arXiv:2503.20783). TRL: `dr_grpo`.
    """
    return [1.0 / (len(lengths) * limit) if length else 0.0 for length in lengths]


NORMALISATIONS: dict[str, Normalisation] = {
    "sequence": sequence_coefficients,
    "token": token_coefficients,
    "constant": constant_coefficients,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyLoss:
    """Loss of one micro-batch and the sums behind its metrics."""

    loss: Tensor
    """A scalar with gradient."""
    sums: Tensor
    """[len(SUMS)] float64, detached; added over micro-batches and ranks, then read by `policy_metrics`."""


SUMS = ("policy", "kl", "tokens", "mismatch_kl", "ratio", "ratio_squared", "outside", "entropy")


def policy_loss(
    tokens: SampledTokens,
    *,
    reference: Tensor | None,
    entropies: Tensor,
    coefficients: Tensor,
    correction: Correction,
    bounds: tuple[float, float],
    estimator: Estimator,
    beta: float,
) -> PolicyLoss:
    """Return L = sum_t c_t * (-objective_t + beta * KL_t), see docs/design.md.

    Args:
        tokens: of a micro-batch, T of them.
        reference: [T], log pi_ref, or None when beta is 0.
        entropies: [T], of pi_old, nats; a metric only.
        coefficients: [T], c_t, 0 for padding and for completions that are left out (counted nowhere).
        correction: of `CORRECTIONS`.
        bounds: of its ratio, the lower and the upper one.
        estimator: of `ESTIMATORS`.
        beta: weight of the KL to the reference.
    """
    real = coefficients > 0
    corrected = correction(tokens, *bounds)
    policy = -(coefficients * corrected.objective).sum()
    kl = torch.zeros_like(policy)
    if reference is not None:
        kl = (coefficients * estimator(tokens.new, reference, corrected)).sum()
    with torch.no_grad():
        behaviour, old = tokens.behaviour[real].double(), tokens.old[real].double()
        ratio = torch.exp(log_ratio(old, behaviour))
        drift = [k3(behaviour, old).sum(), ratio.sum(), ratio.square().sum()]
        outside, entropy = corrected.outside[real].sum().double(), entropies[real].double().sum()
        sums = torch.stack([policy.double(), kl.double(), real.sum().double(), *drift, outside, entropy])
    return PolicyLoss(loss=policy + beta * kl, sums=sums)


def policy_metrics(sums: Sequence[float]) -> dict[str, float]:
    """Return the metrics of a whole batch from the summed `PolicyLoss.sums` (names of docs/design.md).

    entropy: of pi_old per token, nats. mismatch_kl: k3 estimate of KL(mu || pi_old) per token, nats. ess: effective sample
    size of the ratios r = exp(pi_old - mu), before any bound, as a share of the tokens, (sum r)^2 / (n * sum r^2), in (0, 1].
    clip_fraction: of the tokens. A batch without a trained token has the loss alone.

    Args:
        sums: in the order of `SUMS`.
    """
    named = dict(zip(SUMS, sums, strict=True))
    metrics, tokens = {"loss/policy": named["policy"], "loss/kl": named["kl"]}, named["tokens"]
    if tokens:
        metrics |= {
            "policy/entropy": named["entropy"] / tokens,
            "off_policy/mismatch_kl": named["mismatch_kl"] / tokens,
            "off_policy/ess": named["ratio"] ** 2 / (tokens * named["ratio_squared"]),
            "off_policy/clip_fraction": named["outside"] / tokens,
        }
    return metrics


def correctness_loss(logits: Tensor, correct: Tensor, coefficients: Tensor) -> Tensor:
    """Return the binary cross-entropy of the meta-RM, -sum_i c_i * (y_i log s(z_i) + (1 - y_i) log(1 - s(z_i))).

    Args:
        logits: [completions], z.
        correct: [completions], y in {0, 1}.
        coefficients: [completions], 1 / completions in the whole batch, 0 for padding.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, correct, reduction="none")
    return (coefficients * losses).sum()
