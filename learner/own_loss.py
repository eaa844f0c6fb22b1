"""Parts of the policy loss by their setting: one of ours, or a function of the user's own (`grm.own_functions`).

    def advantages(rewards: Sequence[float]) -> Sequence[float]: ...                  `grpo.advantages`
    def correction(tokens: SampledTokens, low: float, high: float) -> Corrected: ...  `grpo.correction`

What is returned is checked at each call; before a run each is tried on `GROUPS` or `tokens()`.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from math import fsum, isfinite
from typing import Any

import torch

from grm.own_functions import RuleError, called, is_own, load_function
from learner.advantages import ADVANTAGES, Advantages
from learner.corrections import CORRECTIONS, Corrected, Correction, SampledTokens

GROUPS = ((1.0, -1.0, 1.0, 1.0), (1.0, -1.0), (0.5, -1.0, 0.75, -1.0), (1.0, 1.0), (-1.0, -1.0, -1.0, -1.0))
"""Rewards of groups that advantages are tried on: mixed, of a pair, of a rule with shades, all right, all wrong."""
ROUNDING = 1e-3  # a sum of advantages below this is 0


@cache
def advantages_of(setting: str) -> Advantages:
    """Return the function of `grpo.advantages`. RuleError when it names one that cannot be used."""
    if not is_own(setting):
        return ADVANTAGES[setting]
    function = load_function(setting, "the rewards of a group")

    def checked(rewards: Sequence[float]) -> tuple[float, ...]:
        found = called(function, setting, tuple(rewards), shown=f"rewards {list(rewards)}")
        values = tuple(found) if isinstance(found, Sequence) and not isinstance(found, str) else ()
        numbers = all(isinstance(value, int | float) and isfinite(value) for value in values)
        if len(values) != len(rewards) or not numbers:
            raise RuleError(
                f"{setting}: it returned {found!r} for rewards {list(rewards)}:"
                f" return {len(rewards)} finite numbers, one a reward"
            )
        return tuple(map(float, values))

    return checked


@cache
def correction_of(setting: str) -> Correction:
    """Return the function of `grpo.correction`. RuleError when it names one that cannot be used."""
    if not is_own(setting):
        return CORRECTIONS[setting]
    function = load_function(setting, "SampledTokens, the lower bound, the upper bound")

    def checked(tokens: SampledTokens, low: float, high: float) -> Corrected:
        shown = f"{tokens.new.numel()} tokens and bounds {low:g}, {high:g}"
        found = called(function, setting, tokens, low, high, shown=shown)
        if not isinstance(found, Corrected):
            raise RuleError(f"{setting}: it returned a {type(found).__name__}: return learner.corrections.Corrected")
        if wrong := list(_wrong(found, tokens)):
            raise RuleError(f"{setting}: {'; '.join(wrong)}; for {shown}")
        return found

    return checked


def _wrong(found: Corrected, tokens: SampledTokens) -> Iterator[str]:
    for name in ("objective", "ratio", "weight", "outside"):
        value = getattr(found, name)
        if not isinstance(value, torch.Tensor) or value.shape != tokens.new.shape:
            yield f"{name} is no tensor of shape {list(tokens.new.shape)}, a number for each token"
    differentiable = torch.is_grad_enabled() and tokens.new.requires_grad
    if differentiable and isinstance(found.objective, torch.Tensor) and not found.objective.requires_grad:
        yield "objective has no gradient: make it of tokens.new"


def try_advantages(setting: str) -> list[str]:
    """Try `grpo.advantages` on `GROUPS`. Returns what is odd and may be meant, a sentence each; RuleError as it is called."""
    function = advantages_of(setting)
    notes = []
    for rewards in GROUPS:
        total = fsum(function(rewards))
        if abs(total) > ROUNDING:
            notes.append(
                f"grpo.advantages: {setting} sums to {total:g} for rewards {list(rewards)}: ours sum to 0, so that a group is"
                " compared with itself"
            )
    return notes[:1]


def try_correction(setting: str, bounds: tuple[float, float]) -> None:
    """Try `grpo.correction` on `tokens`. RuleError when it raises, or returns another shape or no finite gradient."""
    sample = tokens()
    found = correction_of(setting)(sample, *bounds)
    (gradient,) = torch.autograd.grad(found.objective.sum(), sample.new, allow_unused=True)
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        raise RuleError(f"{setting}: the gradient of its objective by tokens.new is {_listed(gradient)}: make it finite")


def tokens() -> SampledTokens:
    """Return two completions of three and two tokens, one better and one worse than its group, and one ratio of 20 nats."""
    new = torch.tensor([-0.5, -2.0, -0.1, -1.0, -3.0], requires_grad=True)
    behaviour = torch.tensor([-0.5, -1.0, -0.2, -21.0, -3.1])
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    return SampledTokens(new=new, old=new.detach(), behaviour=behaviour, advantages=advantages, lengths=(3, 2))


def _listed(gradient: Any) -> str:
    return "missing" if gradient is None else str(gradient.tolist())
