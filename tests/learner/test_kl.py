"""The estimators of the KL divergence: worked numbers, exact expectations over a small distribution, and extremes."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from learner.corrections import CORRECTIONS, SampledTokens
from learner.kl import ESTIMATORS, k3, unbiased

LOG2 = math.log(2)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_k3() -> None:
    # d = log 2: 2 - log 2 - 1; d = -log 2: 1/2 + log 2 - 1
    found = k3(tensor(0, LOG2, 0.3), tensor(LOG2, 0, 0.3))
    assert found.tolist() == pytest.approx([1 - LOG2, LOG2 - 0.5, 0])


def test_k3_is_limited() -> None:
    # e^2.6 - 3.6 = 9.864, e^2.7 - 3.7 = 11.18; e^-10 + 10 - 1 = 9.00005, e^-12 + 12 - 1 > 10
    new = tensor(-2.6, -2.7, 0, 0, -1e9, 0).requires_grad_()
    found = k3(new, tensor(0, 0, -10, -12, 0, -1e9))
    assert found.tolist() == pytest.approx([9.8637, 10, 9.0000454, 10, 10, 10], abs=1e-4)
    found.sum().backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([1 - math.exp(2.6), 0, 1 - math.exp(-10), 0, 0, 0])


def expected_gradient(name: str, policy: Sequence[float], reference: Sequence[float], sampled: Sequence[float]) -> Tensor:
    """Return the gradient, by the logits of the policy, of the estimator's expectation under the distribution that sampled."""
    logits = tensor(*policy).log().requires_grad_()
    new = logits.log_softmax(-1)
    tokens = SampledTokens(
        new=new,
        old=new.detach(),
        behaviour=tensor(*sampled).log(),
        advantages=torch.zeros(len(policy)),
        lengths=[1] * len(policy),
    )
    estimates = ESTIMATORS[name](new, tensor(*reference).log(), CORRECTIONS["tis"](tokens, 0.0, 1e9))
    (tensor(*sampled) * estimates).sum().backward()
    assert logits.grad is not None
    return logits.grad


def exact_gradient(policy: Sequence[float], reference: Sequence[float], *, forward: bool) -> Tensor:
    """Return the gradient of KL(policy || reference), or of KL(reference || policy)."""
    logits, other = tensor(*policy).log().requires_grad_(), tensor(*reference).log()
    new = logits.log_softmax(-1)
    divergence = (other.exp() * (other - new)).sum() if forward else (new.exp() * (new - other)).sum()
    divergence.backward()
    assert logits.grad is not None
    return logits.grad


def test_two_tokens_by_hand() -> None:
    # by the first logit: p (1 - p) (log(p / q) - log((1 - p) / (1 - q))); of the forward KL: p - q
    half, sure, unlikely = (0.5, 0.5), (0.99, 0.01), (0.01, 0.99)
    assert expected_gradient("unbiased", sure, half, sure)[0].item() == pytest.approx(0.045492, abs=1e-6)
    assert expected_gradient("unbiased", half, unlikely, half)[0].item() == pytest.approx(1.148780, abs=1e-6)
    assert expected_gradient("k3", half, unlikely, half)[0].item() == pytest.approx(0.49)
    # the forward KL of the first has 0.49 as well, nearly all of it by the second token, whose k3 of 46 is over the limit:
    # what is left is p (1 - q / p) (1 - p) of the first token
    assert expected_gradient("k3", sure, half, sure)[0].item() == pytest.approx(0.99 * (1 - 0.5 / 0.99) * 0.01)


POLICY, REFERENCE = (0.5, 0.2, 0.2, 0.1), (0.1, 0.3, 0.2, 0.4)


@pytest.mark.parametrize("sampled", [POLICY, (0.25, 0.25, 0.25, 0.25), (0.1, 0.1, 0.1, 0.7)])
def test_unbiased_has_the_gradient_of_the_reverse_kl_whoever_sampled(sampled: tuple[float, ...]) -> None:
    found = expected_gradient("unbiased", POLICY, REFERENCE, sampled)
    torch.testing.assert_close(found, exact_gradient(POLICY, REFERENCE, forward=False), atol=1e-12, rtol=0)


def test_k3_has_the_gradient_of_the_forward_kl() -> None:
    found = expected_gradient("k3", POLICY, REFERENCE, POLICY)
    torch.testing.assert_close(found, exact_gradient(POLICY, REFERENCE, forward=True), atol=1e-12, rtol=0)
    assert not torch.allclose(found, exact_gradient(POLICY, REFERENCE, forward=False), atol=0.01)


def test_unbiased_pulls_the_right_way_where_the_value_is_limited() -> None:
    # w = 1 and rho = 1, so the gradient is -d, within +-20; k3, limited and then times rho, would have +10 at d = 5
    new = torch.tensor([-5.0, -16.0, -1e9, 0.0, 0.0]).requires_grad_()
    tokens = SampledTokens(new=new, old=new.detach(), behaviour=new.detach(), advantages=torch.zeros(5), lengths=[1] * 5)
    found = unbiased(new, torch.tensor([0.0, 0.0, 0.0, -3.0, -1e9]), CORRECTIONS["none"](tokens, 0.0, math.inf))
    assert found.tolist() == pytest.approx([10, 10, 10, math.exp(-3) + 2, 10])
    found.sum().backward()
    assert new.grad is not None
    assert new.grad.tolist() == [-5, -16, -20, 3, 20], "float32, and no digit lost where exp(d) is 9e6"
