"""The losses against numbers worked out by hand and against a slow computation in plain Python."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learner.losses import (
    SUMS,
    PolicyLoss,
    clipped_surrogate,
    correctness_loss,
    k3,
    policy_loss,
    policy_metrics,
    sequence_coefficients,
    token_coefficients,
    truncated_weight,
    unit_weight,
)

LOG2, LOG3 = math.log(2), math.log(3)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_truncated_weight() -> None:
    # ratios 1, 2 and 3 under a cap of 2
    old = tensor(0.0, LOG2, LOG3).requires_grad_()
    weight = truncated_weight(old, tensor(0.0, 0.0, 0.0), 2.0)
    assert weight.tolist() == pytest.approx([1, 2, 2])
    assert not weight.requires_grad, "the weight is a constant for the gradient"
    assert unit_weight(old, old, 2.0).tolist() == [1, 1, 1]


def test_clipped_surrogate() -> None:
    # rho 2 with A > 0 is cut to 1.2, with A < 0 it is not; rho 1/2 with A > 0 is not cut, with A < 0 it is, to 0.8
    new, old = tensor(LOG2, LOG2, -LOG2, -LOG2), tensor(0, 0, 0, 0)
    advantages = tensor(1, -1, 1, -1)
    assert clipped_surrogate(new, old, advantages, 0.2, 0.2).tolist() == pytest.approx([1.2, -2, 0.5, -0.8])
    assert clipped_surrogate(new, old, advantages, 0.1, 0.3).tolist() == pytest.approx([1.3, -2, 0.5, -0.9])


def test_k3() -> None:
    # d = log 2: 2 - log 2 - 1; d = -log 2: 1/2 + log 2 - 1
    found = k3(tensor(0, LOG2, 0.3), tensor(LOG2, 0, 0.3))
    assert found.tolist() == pytest.approx([1 - LOG2, LOG2 - 0.5, 0])


def test_coefficients() -> None:
    assert sequence_coefficients([1, 2, 5]) == pytest.approx([1 / 3, 1 / 6, 1 / 15])
    assert token_coefficients([1, 2, 5]) == [1 / 8] * 3


def worked(**changes: Any) -> PolicyLoss:
    """Two completions of one and two tokens; every number below follows from these by hand."""
    arguments: dict[str, Any] = {
        "new": tensor(0.0, LOG2, 0.0).requires_grad_(),
        "old": tensor(0.0, 0.0, 0.0),
        "behaviour": tensor(0.0, -LOG2, -LOG3),
        "reference": tensor(LOG2, LOG2, 0.0),
        "entropies": tensor(1.0, 2.0, 6.0),
        "advantages": tensor(1.0, -1.0, -1.0),
        "coefficients": tensor(1 / 2, 1 / 4, 1 / 4),
        "correction": truncated_weight,
        "cap": 2.0,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "beta": 0.5,
    }
    return policy_loss(**arguments | changes)


def test_worked_example() -> None:
    # w = 1, 2, 2 (3 cut to 2); rho = 1, 2, 1; surrogate 1, -2, -1
    # policy = -(1/2 * 1 * 1) + 1/4 * 2 * 2 + 1/4 * 2 * 1 = 1; kl = 1/2 * (1 - log 2) + 0 + 0
    found = worked()
    kl = (1 - LOG2) / 2
    assert found.loss.item() == pytest.approx(1 + 0.5 * kl, abs=1e-9)
    metrics = policy_metrics(found.sums.tolist())
    assert metrics["loss/policy"] == pytest.approx(1)
    assert metrics["loss/kl"] == pytest.approx(kl)
    # d = pi_old - mu = 0, log 2, log 3: exp(d) - d - 1 = 0, 1 - log 2, 2 - log 3
    assert metrics["off_policy/mismatch_kl"] == pytest.approx((3 - LOG2 - LOG3) / 3)
    assert metrics["off_policy/ess"] == pytest.approx((1 + 2 + 3) ** 2 / (3 * (1 + 4 + 9)))
    assert metrics["off_policy/tis_truncated_fraction"] == pytest.approx(1 / 3)
    assert metrics["policy/entropy"] == pytest.approx(3), "(1 + 2 + 6) / 3"
    assert metrics["off_policy/clip_fraction"] == 0  # rho = 2 has A < 0, where the minimum is not the clipped one
    assert policy_metrics(worked(advantages=tensor(1, 1, 1)).sums.tolist())["off_policy/clip_fraction"] == pytest.approx(1 / 3)


def test_gradient_by_hand() -> None:
    # d/d new of -c w rho A is itself where not clipped; of beta c k3 it is beta c (1 - exp(ref - new))
    new = tensor(0.0, LOG2, 0.0).requires_grad_()
    worked(new=new).loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([-0.5 + 0.25 * (1 - 2), 1.0, 0.5], abs=1e-9)


def test_no_correction_and_no_reference() -> None:
    # policy = -1/2 * 1 + 1/4 * 2 + 1/4 * 1
    found = worked(correction=unit_weight, reference=None)
    assert found.loss.item() == pytest.approx(0.25)
    assert policy_metrics(found.sums.tolist())["loss/kl"] == 0


def test_a_token_with_coefficient_0_counts_nowhere() -> None:
    found = worked(
        new=tensor(0.0, LOG2, 0.0, -9.0).requires_grad_(),
        old=tensor(0.0, 0.0, 0.0, -9.0),
        behaviour=tensor(0.0, -LOG2, -LOG3, 0.0),
        reference=tensor(LOG2, LOG2, 0.0, -1.0),
        entropies=tensor(1.0, 2.0, 6.0, 100.0),
        advantages=tensor(1.0, -1.0, -1.0, 0.0),
        coefficients=tensor(1 / 2, 1 / 4, 1 / 4, 0.0),
    )
    assert torch.equal(found.sums, worked().sums)
    assert found.loss.item() == worked().loss.item()


Case = list[list[tuple[float, float, float, float]]]  # completion -> token -> new, old, behaviour, reference
logprob = st.floats(-6, 0)
cases = st.lists(st.lists(st.tuples(logprob, logprob, logprob, logprob), min_size=1, max_size=5), min_size=1, max_size=6)


def slowly(case: Case, advantages: list[float], normalise: str, cap: float, beta: float) -> float:
    """Return the loss of docs/design.md, a token at a time, in plain floats."""
    total = 0.0
    for completion, advantage in zip(case, advantages, strict=True):
        summed = 0.0
        for new, old, behaviour, reference in completion:
            weight, ratio = min(math.exp(old - behaviour), cap), math.exp(new - old)
            surrogate = min(ratio * advantage, max(0.8, min(ratio, 1.3)) * advantage)
            summed += -weight * surrogate + beta * (math.exp(reference - new) - (reference - new) - 1)
        total += summed / len(completion) if normalise == "sequence" else summed
    return total / (len(case) if normalise == "sequence" else sum(map(len, case)))


def quickly(case: Case, advantages: list[float], coefficients: list[float], cap: float, beta: float) -> PolicyLoss:
    new, old, behaviour, reference = (
        torch.tensor([token[i] for completion in case for token in completion], dtype=torch.float64) for i in range(4)
    )
    counts = torch.tensor([len(completion) for completion in case])
    return policy_loss(
        new=new.requires_grad_(),
        old=old,
        behaviour=behaviour,
        reference=reference,
        entropies=-new.detach(),
        advantages=torch.repeat_interleave(torch.tensor(advantages, dtype=torch.float64), counts),
        coefficients=torch.repeat_interleave(torch.tensor(coefficients, dtype=torch.float64), counts),
        correction=truncated_weight,
        cap=cap,
        clip_low=0.2,
        clip_high=0.3,
        beta=beta,
    )


NORMALISED: list[tuple[str, Callable[[list[int]], list[float]]]] = [
    ("sequence", sequence_coefficients),
    ("token", token_coefficients),
]


@pytest.mark.parametrize(("normalise", "coefficients"), NORMALISED)
@given(case=cases, seed=st.integers(0, 1000), cap=st.floats(1, 4), beta=st.floats(0, 1))
def test_equals_the_slow_computation(
    normalise: str, coefficients: Callable[[list[int]], list[float]], case: Case, seed: int, cap: float, beta: float
) -> None:
    rng = random.Random(seed)
    advantages = [rng.uniform(-2, 2) for _ in case]
    weights = coefficients([len(completion) for completion in case])
    expected = slowly(case, advantages, normalise, cap, beta)
    assert quickly(case, advantages, weights, cap, beta).loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(case=cases, seed=st.integers(0, 1000), at=st.integers(1, 5))
def test_a_batch_is_the_sum_of_its_micro_batches(case: Case, seed: int, at: int) -> None:
    rng = random.Random(seed)
    advantages = [rng.uniform(-2, 2) for _ in case]
    weights = sequence_coefficients([len(completion) for completion in case])
    parts = [slice(0, at), slice(at, None)]
    halves = [quickly(case[p], advantages[p], weights[p], 2.0, 0.1) for p in parts if case[p]]
    whole = quickly(case, advantages, weights, 2.0, 0.1)
    assert sum(half.loss.item() for half in halves) == pytest.approx(whole.loss.item(), abs=1e-9)
    sums = torch.stack([half.sums for half in halves]).sum(0)
    assert sums.tolist() == pytest.approx(whole.sums.tolist(), abs=1e-9)
    assert len(sums) == len(SUMS)


def test_correctness_loss() -> None:
    # -log s(0) = log 2; y = 1 at z = log 3: -log(3/4); y = 0 at z = log 3: -log(1/4); the last row is padding
    logits = tensor(0, LOG3, LOG3, 5).requires_grad_()
    loss = correctness_loss(logits, tensor(1, 1, 0, 0), tensor(1 / 3, 1 / 3, 1 / 3, 0))
    assert loss.item() == pytest.approx((LOG2 + math.log(4 / 3) + math.log(4)) / 3)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([(0.5 - 1) / 3, (0.75 - 1) / 3, 0.75 / 3, 0])
