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

Correction = Callable[[Tensor, Tensor, float], Tensor]
Normalisation = Callable[[Sequence[int]], list[float]]


def truncated_weight(old: Tensor, behaviour: Tensor, cap: float) -> Tensor:
    """Return the truncated importance weight w = min(exp(pi_old - mu), C), a constant for the gradient (`correction: tis`)."""
    return torch.exp(old - behaviour).clamp(max=cap).detach()


def unit_weight(old: Tensor, behaviour: Tensor, cap: float) -> Tensor:
    """Return w = 1: the behaviour policy is taken for the learner's (`correction: none`)."""
    del behaviour, cap
    return torch.ones_like(old)


CORRECTIONS: dict[str, Correction] = {"tis": truncated_weight, "none": unit_weight}


def clipped_surrogate(new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """Return min(rho * A, clip(rho, 1 - low, 1 + high) * A) with rho = exp(new - old), to be maximised; [T]."""
    ratio = torch.exp(new - old)
    return torch.minimum(ratio * advantages, ratio.clamp(1.0 - low, 1.0 + high) * advantages)


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """Return Schulman's k3 estimate of KL(new || reference) per token: exp(d) - d - 1 with d = reference - new; >= 0."""
    difference = reference - new
    return torch.exp(difference) - difference - 1.0


def sequence_coefficients(lengths: Sequence[int]) -> list[float]:
    """Return the coefficient of a token of each completion: 1 / (N * |o_i|), N completions in the *whole* batch.

    `normalise: sequence`, the paper's GRPO: a mean over completions of the mean over their tokens.
    """
    return [1.0 / (len(lengths) * length) for length in lengths]


def token_coefficients(lengths: Sequence[int]) -> list[float]:
    """Return the coefficient of a token of each completion: 1 / (sum of all lengths of the *whole* batch).

    `normalise: token`: a mean over all tokens.
    """
    total = sum(lengths)
    return [1.0 / total for _ in lengths]


NORMALISATIONS: dict[str, Normalisation] = {"sequence": sequence_coefficients, "token": token_coefficients}


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyLoss:
    """Loss of one micro-batch and the sums behind its metrics."""

    loss: Tensor
    """A scalar with gradient."""
    sums: Tensor
    """[len(SUMS)] float64, detached; added over micro-batches and ranks, then read by `policy_metrics`."""


SUMS = ("policy", "kl", "tokens", "mismatch_kl", "weight", "weight_squared", "truncated", "clipped", "entropy")


def policy_loss(
    *,
    new: Tensor,
    old: Tensor,
    behaviour: Tensor,
    reference: Tensor | None,
    entropies: Tensor,
    advantages: Tensor,
    coefficients: Tensor,
    correction: Correction,
    cap: float,
    clip_low: float,
    clip_high: float,
    beta: float,
) -> PolicyLoss:
    """Return L = sum_t c_t * (-w_t * min(rho_t A_t, clip(rho_t) A_t) + beta * k3_t), see docs/design.md.

    Args:
        new: [T], log pi_theta, with gradient.
        old: [T], log pi_old, the learner's log-probs before this optimiser step.
        behaviour: [T], log mu, the log-probs that the rollout recorded.
        reference: [T], log pi_ref, or None when beta is 0.
        entropies: [T], of pi_old, nats; a metric only.
        advantages: [T], A of each token's completion.
        coefficients: [T], c_t, 0 for padding (counted nowhere).
        correction: w of old, behaviour and cap.
        cap: C, the largest importance weight.
        clip_low: rho is clipped below 1 - clip_low.
        clip_high: rho is clipped above 1 + clip_high.
        beta: weight of the KL to the reference.
    """
    real = coefficients > 0
    weight = correction(old, behaviour, cap)
    surrogate = -weight * clipped_surrogate(new, old, advantages, clip_low, clip_high)
    policy = (coefficients * surrogate).sum()
    kl = (coefficients * k3(new, reference)).sum() if reference is not None else torch.zeros_like(policy)
    with torch.no_grad():
        difference = (old - behaviour)[real].double()
        clipped = _is_clipped(torch.exp(new - old)[real], advantages[real], clip_low, clip_high)
        importance = torch.exp(difference)
        weights = [(importance - difference - 1.0).sum(), importance.sum(), importance.square().sum()]
        counts = [(importance > cap).sum().double(), clipped.sum().double()]
        entropy = entropies[real].double().sum()
        sums = torch.stack([policy.double(), kl.double(), real.sum().double(), *weights, *counts, entropy])
    return PolicyLoss(loss=policy + beta * kl, sums=sums)


def _is_clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """Return where the surrogate is the clipped one, so that there is no gradient."""
    return ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - low) & (advantages < 0))


def policy_metrics(sums: Sequence[float]) -> dict[str, float]:
    """Return the metrics of a whole batch from the summed `PolicyLoss.sums` (names of docs/design.md).

    entropy: of pi_old per token, nats. mismatch_kl: k3 estimate of KL(mu || pi_old) per token, nats. ess: effective sample
    size of the untruncated importance weights as a share of the tokens, (sum w)^2 / (n * sum w^2), in (0, 1]. The
    fractions are of tokens. clip_fraction is 0 as long as each batch gets one optimiser step (rho = 1 then).

    Args:
        sums: in the order of `SUMS`.
    """
    named = dict(zip(SUMS, sums, strict=True))
    tokens = named["tokens"]
    return {
        "loss/policy": named["policy"],
        "loss/kl": named["kl"],
        "policy/entropy": named["entropy"] / tokens,
        "off_policy/mismatch_kl": named["mismatch_kl"] / tokens,
        "off_policy/ess": named["weight"] ** 2 / (tokens * named["weight_squared"]),
        "off_policy/tis_truncated_fraction": named["truncated"] / tokens,
        "off_policy/clip_fraction": named["clipped"] / tokens,
    }


def correctness_loss(logits: Tensor, correct: Tensor, coefficients: Tensor) -> Tensor:
    """Return the binary cross-entropy of the meta-RM, -sum_i c_i * (y_i log s(z_i) + (1 - y_i) log(1 - s(z_i))).

    Args:
        logits: [completions], z.
        correct: [completions], y in {0, 1}.
        coefficients: [completions], 1 / completions in the whole batch, 0 for padding.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, correct, reduction="none")
    return (coefficients * losses).sum()
