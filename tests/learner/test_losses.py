"""The loss of a batch against numbers worked out by hand; every form of it: test_loss_forms.py."""

import itertools
import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learner.corrections import CORRECTIONS, SampledTokens
from learner.kl import ESTIMATORS
from learner.losses import (
    SUMS,
    PolicyLoss,
    constant_coefficients,
    correctness_loss,
    policy_loss,
    policy_metrics,
    sequence_coefficients,
    token_coefficients,
)

LOG2, LOG3 = math.log(2), math.log(3)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_coefficients() -> None:
    assert sequence_coefficients([1, 2, 5], 10) == pytest.approx([1 / 3, 1 / 6, 1 / 15])
    assert token_coefficients([1, 2, 5], 10) == [1 / 8] * 3
    assert constant_coefficients([1, 2, 5], 10) == pytest.approx([1 / 30] * 3)


def test_a_completion_that_is_left_out_counts_as_a_completion_and_not_as_tokens() -> None:
    assert sequence_coefficients([1, 0, 5], 10) == pytest.approx([1 / 3, 0, 1 / 15])
    assert token_coefficients([1, 0, 5], 10) == pytest.approx([1 / 6, 0, 1 / 6])
    assert constant_coefficients([1, 0, 5], 10) == pytest.approx([1 / 30, 0, 1 / 30])
    assert [count([0, 0], 10) for count in (sequence_coefficients, token_coefficients, constant_coefficients)] == [[0, 0]] * 3


def worked(*, tokens: dict[str, Any] | None = None, **changes: Any) -> PolicyLoss:
    """Two completions of one and two tokens; every number below follows from these by hand."""
    sampled: dict[str, Any] = {
        "new": tensor(0.0, LOG2, 0.0).requires_grad_(),
        "old": tensor(0.0, 0.0, 0.0),
        "behaviour": tensor(0.0, -LOG2, -LOG3),
        "advantages": tensor(1.0, -1.0, -1.0),
        "lengths": [1, 2],
    }
    arguments: dict[str, Any] = {
        "reference": tensor(LOG2, LOG2, 0.0),
        "entropies": tensor(1.0, 2.0, 6.0),
        "coefficients": tensor(1 / 2, 1 / 4, 1 / 4),
        "correction": CORRECTIONS["tis"],
        "bounds": (0.0, 2.0),
        "estimator": ESTIMATORS["unbiased"],
        "beta": 0.5,
    }
    return policy_loss(SampledTokens(**sampled | (tokens or {})), **arguments | changes)


def test_worked_example() -> None:
    # w = 1, 2, 2 (3 cut to 2); rho = 1, 2, 1; w * rho * A = 1, -4, -2
    # policy = -(1/2 * 1) + 1/4 * 4 + 1/4 * 2 = 1; kl = 1/2 * 1 * 1 * (1 - log 2) + 0 + 0
    found = worked()
    kl = (1 - LOG2) / 2
    assert found.loss.item() == pytest.approx(1 + 0.5 * kl, abs=1e-9)
    metrics = policy_metrics(found.sums.tolist())
    assert metrics["loss/policy"] == pytest.approx(1)
    assert metrics["loss/kl"] == pytest.approx(kl)
    # d = pi_old - mu = 0, log 2, log 3: exp(d) - d - 1 = 0, 1 - log 2, 2 - log 3
    assert metrics["off_policy/mismatch_kl"] == pytest.approx((3 - LOG2 - LOG3) / 3)
    assert metrics["off_policy/ess"] == pytest.approx((1 + 2 + 3) ** 2 / (3 * (1 + 4 + 9)))
    assert metrics["off_policy/clip_fraction"] == pytest.approx(1 / 3)
    assert metrics["policy/entropy"] == pytest.approx(3), "(1 + 2 + 6) / 3"


def test_gradient_by_hand() -> None:
    # by new: of -c w rho A it is itself; of beta c w rho k3 it is -beta c w rho d, with d = log 2, 0, 0
    new = tensor(0.0, LOG2, 0.0).requires_grad_()
    worked(tokens={"new": new}).loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([-0.5 - 0.25 * LOG2, 1.0, 0.5], abs=1e-9)
    # of beta c k3: beta c (1 - exp(d))
    new = tensor(0.0, LOG2, 0.0).requires_grad_()
    worked(tokens={"new": new}, estimator=ESTIMATORS["k3"]).loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([-0.5 + 0.25 * (1 - 2), 1.0, 0.5], abs=1e-9)


def test_no_correction_and_no_reference() -> None:
    # policy = -1/2 * 1 + 1/4 * 2 + 1/4 * 1
    found = worked(correction=CORRECTIONS["none"], reference=None)
    assert found.loss.item() == pytest.approx(0.25)
    assert policy_metrics(found.sums.tolist())["loss/kl"] == 0


def test_a_token_with_coefficient_0_counts_nowhere() -> None:
    found = worked(
        tokens={
            "new": tensor(0.0, LOG2, 0.0, -9.0).requires_grad_(),
            "old": tensor(0.0, 0.0, 0.0, -9.0),
            "behaviour": tensor(0.0, -LOG2, -LOG3, 0.0),
            "advantages": tensor(1.0, -1.0, -1.0, 0.0),
            "lengths": [1, 2, 1],
        },
        reference=tensor(LOG2, LOG2, 0.0, -1.0),
        entropies=tensor(1.0, 2.0, 6.0, 100.0),
        coefficients=tensor(1 / 2, 1 / 4, 1 / 4, 0.0),
    )
    assert torch.equal(found.sums, worked().sums)
    assert found.loss.item() == worked().loss.item()


def test_a_batch_that_is_left_out_whole_has_a_loss_of_0_and_no_other_metric() -> None:
    found = worked(coefficients=tensor(0.0, 0.0, 0.0))
    found.loss.backward()
    assert policy_metrics(found.sums.tolist()) == {"loss/policy": 0, "loss/kl": 0}


FAR = (0.0, -1.0, -30.0, -1e4, -1e30)
FORMS = list(itertools.product(CORRECTIONS, ESTIMATORS))


@pytest.mark.parametrize(("correction", "kl"), FORMS, ids=lambda name: name)
def test_no_token_makes_a_batch_infinite(correction: str, kl: str) -> None:
    """In float32, with any two policies as far from each other as they like."""
    grid = torch.tensor(list(itertools.product(FAR, FAR, FAR)))
    old, behaviour, reference = (grid[:, i].contiguous() for i in range(3))
    for advantage in (1.5, -1.5):
        new = old.clone().requires_grad_()
        lengths = [5] * (len(grid) // 5)
        found = worked(
            tokens={"new": new, "old": old, "behaviour": behaviour, "lengths": lengths}
            | {"advantages": torch.full_like(old, advantage)},
            reference=reference,
            entropies=torch.ones_like(old),
            coefficients=torch.full_like(old, 1 / len(old)),
            correction=CORRECTIONS[correction],
            bounds=(0.5, 2.0),
            estimator=ESTIMATORS[kl],
        )
        found.loss.backward()
        assert new.grad is not None
        assert torch.isfinite(found.loss)
        assert torch.isfinite(new.grad).all()
        metrics = policy_metrics(found.sums.tolist())
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        assert metrics["off_policy/mismatch_kl"] <= 10


Case = list[list[tuple[float, float, float, float]]]  # completion -> token -> new, old, behaviour, reference
logprob = st.floats(-6, 0)
cases = st.lists(st.lists(st.tuples(logprob, logprob, logprob, logprob), min_size=1, max_size=5), min_size=1, max_size=6)


def loss_of(case: Case, advantages: list[float], coefficients: list[float], correction: str) -> PolicyLoss:
    new, old, behaviour, reference = (tensor(*(token[i] for completion in case for token in completion)) for i in range(4))
    lengths = [len(completion) for completion in case]
    return worked(
        tokens={
            "new": new.requires_grad_(),
            "old": old,
            "behaviour": behaviour,
            "advantages": torch.repeat_interleave(tensor(*advantages), torch.tensor(lengths)),
            "lengths": lengths,
        },
        reference=reference,
        entropies=-new.detach(),
        coefficients=torch.repeat_interleave(tensor(*coefficients), torch.tensor(lengths)),
        correction=CORRECTIONS[correction],
        bounds=(0.7, 1.4),
        beta=0.1,
    )


@given(case=cases, seed=st.integers(0, 1000), at=st.integers(1, 5), correction=st.sampled_from(sorted(CORRECTIONS)))
def test_a_batch_is_the_sum_of_its_micro_batches(case: Case, seed: int, at: int, correction: str) -> None:
    rng = random.Random(seed)
    advantages = [rng.uniform(-2, 2) for _ in case]
    weights = sequence_coefficients([len(completion) for completion in case], 5)
    parts = [slice(0, at), slice(at, None)]
    halves = [loss_of(case[p], advantages[p], weights[p], correction) for p in parts if case[p]]
    whole = loss_of(case, advantages, weights, correction)
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
