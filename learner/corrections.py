"""Corrections for tokens that another policy sampled than the one that trains on them (pure torch).

A token was sampled by mu (an older policy, computed by another engine). With

    r_t   = exp(pi_old - mu)        how much likelier the token is for the learner before this step, a constant
    rho_t = exp(pi_theta - pi_old)  1 in value as each batch gets one optimiser step; it carries the gradient

each correction returns an objective per token, to be maximised: w_t * rho_t * A_t, in which w_t is r_t, or the same of the
whole completion, kept within the bounds `grpo.ratio_low` and `grpo.ratio_high`. `clip` is PPO's objective on the ratio
exp(pi_theta - mu) itself.

| name | r of | out of bounds | as in |
|---|---|---|---|
| `tis` | the token | cut to the bound | Yao et al. 2025 (truncated importance sampling); verl's Token-TIS |
| `icepop` | the token | w = 0 | IcePop (arXiv:2510.18855) |
| `sequence_mask` | the completion, a product over its tokens | w = 0 | TRL 1.16's default; verl's Seq-MIS |
| `geometric` | the completion, the geometric mean over its tokens | w = 0 | verl's Geo-RS, where w = 1 inside |
| `clip` | the token, with gradient | clipped where that lowers the objective | PPO (arXiv:1707.06347) |
| `none` | nothing, w = 1 | | |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # nats; exp of it is finite in every format, and so are its squares in float32. verl has the same limit


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledTokens:
    """The completion tokens of a micro-batch under the three policies, completion after completion."""

    new: Tensor
    """[T], log pi_theta, with gradient."""
    old: Tensor
    """[T], log pi_old, the learner's log-probs before this optimiser step."""
    behaviour: Tensor
    """[T], log mu, the log-probs that the rollout recorded."""
    advantages: Tensor
    """[T], A of each token's completion."""
    lengths: Sequence[int]
    """Tokens of each completion, all of which are here; their sum is T."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corrected:
    """What a correction makes of the tokens."""

    objective: Tensor
    """[T], to be maximised; its gradient is the policy gradient."""
    ratio: Tensor
    """[T], rho with its gradient: the importance ratio of the policy that is trained."""
    weight: Tensor
    """[T], w, a constant for the gradient."""
    outside: Tensor
    """[T] bool: where the bounds changed something, so that the token was truncated, masked or clipped."""


Correction = Callable[[SampledTokens, float, float], Corrected]
"""Returns the objective of (tokens, lower bound of the ratio, upper bound of the ratio)."""


def log_ratio(of: Tensor, to: Tensor) -> Tensor:
    """Return of - to, limited to +-20 nats, so that neither its exponential nor a gradient can overflow."""
    return (of - to).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def truncated(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Cut each token's ratio to the bounds (`correction: tis`)."""
    ratio = torch.exp(log_ratio(tokens.old, tokens.behaviour))
    return weighted(tokens, ratio.clamp(low, high), _outside(ratio, low, high))


def token_mask(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Leave out tokens whose ratio is out of bounds (`correction: icepop`)."""
    return _masked(tokens, torch.exp(log_ratio(tokens.old, tokens.behaviour)), low, high)


def sequence_mask(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Leave out completions the product of whose ratios is out of bounds; it weighs the tokens of the others."""
    return _masked(tokens, torch.exp(_per_completion(tokens, mean=False)), low, high)


def geometric_mask(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Leave out completions the geometric mean of whose ratios is out of bounds; it weighs the tokens of the others."""
    return _masked(tokens, torch.exp(_per_completion(tokens, mean=True)), low, high)


def clipped(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Return min(rho * A, clip(rho, low, high) * A) with rho = exp(pi_theta - mu), and w = 1 (`correction: clip`)."""
    ratio, advantages = torch.exp(log_ratio(tokens.new, tokens.behaviour)), tokens.advantages
    objective = torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    outside = ((ratio > high) & (advantages > 0)) | ((ratio < low) & (advantages < 0))
    return Corrected(objective=objective, ratio=ratio, weight=torch.ones_like(ratio).detach(), outside=outside.detach())


def uncorrected(tokens: SampledTokens, low: float, high: float) -> Corrected:
    """Take the policy that sampled for the learner's: w = 1 (`correction: none`)."""
    del low, high
    return weighted(tokens, torch.ones_like(tokens.old), torch.zeros_like(tokens.old, dtype=torch.bool))


CORRECTIONS: dict[str, Correction] = {
    "tis": truncated,
    "sequence_mask": sequence_mask,
    "geometric": geometric_mask,
    "icepop": token_mask,
    "clip": clipped,
    "none": uncorrected,
}


def weighted(tokens: SampledTokens, weight: Tensor, outside: Tensor) -> Corrected:
    """Return the objective w * rho * A of weights [T], which are constants; `outside` as in `Corrected`."""
    ratio = torch.exp(log_ratio(tokens.new, tokens.old))
    weight = weight.detach()
    return Corrected(objective=weight * ratio * tokens.advantages, ratio=ratio, weight=weight, outside=outside)


def _masked(tokens: SampledTokens, ratio: Tensor, low: float, high: float) -> Corrected:
    outside = _outside(ratio, low, high)
    return weighted(tokens, ratio.masked_fill(outside, 0.0), outside)


def _outside(ratio: Tensor, low: float, high: float) -> Tensor:
    return ((ratio < low) | (ratio > high)).detach()


def _per_completion(tokens: SampledTokens, *, mean: bool) -> Tensor:
    """Return the sum (or mean) of pi_old - mu over each completion, repeated for each of its tokens: [T], within +-20."""
    difference = (tokens.old - tokens.behaviour).detach()
    parts = difference.split(list(tokens.lengths))
    values = torch.stack([part.mean() if mean else part.sum() for part in parts])
    counts = torch.tensor(tokens.lengths, device=difference.device)
    return torch.repeat_interleave(values.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT), counts)
