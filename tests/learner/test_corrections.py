"""The corrections against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from learner.corrections import CORRECTIONS, Corrected, SampledTokens, log_ratio

LOG2, LOG3 = math.log(2), math.log(3)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_log_ratios_are_limited() -> None:
    assert log_ratio(tensor(-1, 0, -1e9), tensor(-3, -1e9, 0)).tolist() == [2, 20, -20]


def corrected(name: str, low: float, high: float, *, advantages: Tensor | None = None) -> Corrected:
    """Two completions: ratios exp(pi_old - mu) of 1, 2, 3 and of 1/2, 1/2; rho = exp(pi_theta - pi_old) = 1."""
    old = tensor(-1, -1, -1, -2, -2)
    tokens = SampledTokens(
        new=old.clone().requires_grad_(),
        old=old,
        behaviour=old - tensor(0, LOG2, LOG3, -LOG2, -LOG2),
        advantages=tensor(1, 1, 1, -1, -1) if advantages is None else advantages,
        lengths=[3, 2],
    )
    found = CORRECTIONS[name](tokens, low, high)
    assert not found.weight.requires_grad, "the weight is a constant for the gradient"
    assert found.ratio.requires_grad
    return found


@pytest.mark.parametrize(
    ("name", "low", "high", "weights"),
    [
        ("none", 0, math.inf, [1, 1, 1, 1, 1]),
        ("tis", 0, 2, [1, 2, 2, 0.5, 0.5]),
        ("tis", 0.8, 2, [1, 2, 2, 0.8, 0.8]),
        ("icepop", 0.4, 2.5, [1, 2, 0, 0.5, 0.5]),
        ("icepop", 0.6, 5, [1, 2, 3, 0, 0]),
        ("sequence_mask", 0, 3, [0, 0, 0, 0.25, 0.25]),  # products 6 and 1/4
        ("sequence_mask", 0.3, 7, [6, 6, 6, 0, 0]),
        ("geometric", 0, 1.5, [0, 0, 0, 0.5, 0.5]),  # 6^(1/3) = 1.817 and 1/2
        ("geometric", 0.9, 2, [6 ** (1 / 3)] * 3 + [0, 0]),
    ],
)
def test_weights(name: str, low: float, high: float, weights: list[float]) -> None:
    found = corrected(name, low, high)
    assert found.weight.tolist() == pytest.approx(weights)
    assert found.objective.tolist() == pytest.approx([w * a for w, a in zip(weights, [1, 1, 1, -1, -1], strict=True)])
    unbounded = corrected(name, 0, math.inf).weight.tolist()
    changed = [not math.isclose(a, b) for a, b in zip(weights, unbounded, strict=True)]
    assert found.outside.tolist() == changed


def test_clip_is_ppo_against_the_policy_that_sampled() -> None:
    # rho = exp(pi_theta - mu) = 1, 2, 3, 1/2, 1/2; with A > 0 cut above 1.2, with A < 0 cut below 0.8
    found = corrected("clip", 0.8, 1.2)
    assert found.ratio.tolist() == pytest.approx([1, 2, 3, 0.5, 0.5])
    assert found.weight.tolist() == [1] * 5
    assert found.objective.tolist() == pytest.approx([1, 1.2, 1.2, -0.8, -0.8])
    assert found.outside.tolist() == [False, True, True, True, True]
    other = corrected("clip", 0.8, 1.2, advantages=tensor(-1, -1, -1, 1, 1))
    assert other.objective.tolist() == pytest.approx([-1, -2, -3, 0.5, 0.5])
    assert not other.outside.any()


def test_the_gradient_is_the_objective_where_nothing_is_clipped() -> None:
    """Of w rho A by pi_theta: w rho A."""
    old = tensor(-1, -1, -2)
    for name in CORRECTIONS:
        new = old.clone().requires_grad_()
        tokens = SampledTokens(
            new=new, old=old, behaviour=old - tensor(0.1, 0.1, -0.1), advantages=tensor(1, -1, 2), lengths=[2, 1]
        )
        found = CORRECTIONS[name](tokens, 0.5, 2.0)
        found.objective.sum().backward()
        assert new.grad is not None
        assert new.grad.tolist() == pytest.approx(found.objective.tolist())
