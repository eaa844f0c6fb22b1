"""The head as one function: worked numbers, autograd of the plain formula, what it keeps, what it is worth in bfloat16."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from learner import head_logprobs as module
from learner.head_logprobs import head_logprobs

TOKENS, HIDDEN, VOCABULARY = 7, 5, 11


def inputs(dtype: torch.dtype, *, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Return hidden states, weight, bias, targets, and a weight for each log-prob."""
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)

    hidden, weight = random(TOKENS, HIDDEN).requires_grad_(), random(VOCABULARY, HIDDEN).requires_grad_()
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=rng)
    return hidden, weight, random(VOCABULARY).requires_grad_() if bias else None, targets, random(TOKENS)


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, cap: float | None) -> Any:
    """The formula with autograd."""
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    distribution = torch.distributions.Categorical(logits=logits / temperature)
    return distribution.log_prob(targets), distribution.entropy().detach()


def test_worked_numbers() -> None:
    """Logits ln 1, ln 3 at T = 1/2: p = 1/10, 9/10. d = 2 (onehot - p) of token 1 = (-1/5, 1/5)."""
    hidden = torch.tensor([[1.0, 2.0]], requires_grad=True)
    weight = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]], requires_grad=True)
    logprobs, entropies = head_logprobs(hidden, weight, None, torch.tensor([1]), temperature=0.5, cap=None, chunk=1)
    assert logprobs.tolist() == pytest.approx([math.log(0.9)])
    assert entropies.tolist() == pytest.approx([-(0.1 * math.log(0.1) + 0.9 * math.log(0.9))])
    logprobs.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    assert hidden.grad.tolist()[0] == pytest.approx([0.2 * math.log(3.0), 0.0])
    assert weight.grad.flatten().tolist() == pytest.approx([-0.2, -0.4, 0.2, 0.4])


@pytest.mark.parametrize("cap", [None, 2.0], ids=["no cap", "cap"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("chunk", [3, TOKENS], ids=["chunks", "whole"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_the_plain_formula(
    cap: float | None, bias: bool, chunk: int, temperature: float
) -> None:
    hidden, weight, offset, targets, factors = inputs(torch.float32, bias=bias)
    leaves = [leaf for leaf in (hidden, weight, offset) if leaf is not None]
    expected, expected_entropies = plain(hidden, weight, offset, targets, temperature, cap)
    wanted = torch.autograd.grad((expected * factors).sum(), leaves)
    actual, entropies = head_logprobs(hidden, weight, offset, targets, temperature=temperature, cap=cap, chunk=chunk)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropies, expected_entropies, rtol=1e-5, atol=1e-6)
    assert not entropies.requires_grad
    for gradient, right in zip(torch.autograd.grad((actual * factors).sum(), leaves), wanted, strict=True):
        assert (gradient - right).abs().max() <= 1e-5 * right.abs().max()

    def logprobs(*tensors: Tensor) -> Tensor:
        first, second, *rest = tensors
        third = rest[0] if rest else None
        return head_logprobs(first, second, third, targets, temperature=temperature, cap=cap, chunk=chunk)[0]

    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    assert logprobs(*doubles).dtype == torch.float64
    assert torch.autograd.gradcheck(logprobs, doubles)


def test_a_frozen_head_costs_no_gradient_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, bias, targets, _ = inputs(torch.float32, bias=True)
    assert bias is not None

    def refuse(*_: Any) -> None:
        raise AssertionError("a gradient that nobody asked for was computed")

    monkeypatch.setattr(module, "_add_product", refuse)
    frozen = weight.detach(), bias.detach()
    head_logprobs(hidden, *frozen, targets, temperature=1.0, cap=None, chunk=2)[0].sum().backward()
    assert hidden.grad is not None
    with pytest.raises(AssertionError, match="nobody asked for"):
        head_logprobs(hidden, weight, frozen[1], targets, temperature=1.0, cap=None, chunk=2)[0].sum().backward()


@pytest.mark.parametrize(("chunk", "cap", "largest"), [(3, None, 0), (3, 2.0, 0), (TOKENS, 2.0, 0), (TOKENS, None, TOKENS)])
def test_logits_are_not_kept(chunk: int, cap: float | None, largest: int) -> None:
    """Of [tokens, vocabulary] nothing is, but for the log-probs of what is a single chunk."""
    hidden, weight, _, targets, _ = inputs(torch.float32, bias=False)
    saved: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        head_logprobs(hidden, weight, None, targets, temperature=0.7, cap=cap, chunk=chunk)
    assert {shape for shape in saved if shape[1:] == (VOCABULARY,)} == ({(largest, VOCABULARY)} if largest else set())
    assert hidden.shape in saved


def rounded(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The formula as it was before: logits in the model's dtype, and only then float32."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    distribution = torch.distributions.Categorical(logits=logits)
    return distribution.log_prob(targets), distribution.entropy()


def test_in_bfloat16_it_is_far_closer_to_the_truth_than_rounded_logits() -> None:
    """On logits up to some 20, as trained models have: the mean error of a log-prob falls from 2e-2 nats to 1e-6, that of the
    weights' gradient, in 64 chunks, from 1.0 % to 0.23 % of its norm: what rounding it once leaves."""
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 256, generator=rng).bfloat16()
    weight = (torch.randn(2000, 256, generator=rng) * 0.4).bfloat16()
    targets, factors = torch.randint(2000, (64,), generator=rng), torch.randn(64, generator=rng)

    def of(formula: Callable[..., Any], dtype: torch.dtype, chunk: int = 64) -> tuple[Tensor, Tensor]:
        h, w = hidden.to(dtype), weight.to(dtype, copy=True).requires_grad_()
        parts = [formula(rows, w, ids)[0] for rows, ids in zip(h.split(chunk), targets.split(chunk), strict=True)]
        logprobs = torch.cat(parts)
        (logprobs * factors).sum().backward()
        assert w.grad is not None
        return logprobs.detach().float(), w.grad.float()

    def new(rows: Tensor, w: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return head_logprobs(rows, w, None, ids, temperature=1.0, cap=None, chunk=1)

    truth, true_gradient = of(rounded, torch.float64)
    errors = {
        name: ((logprobs - truth).abs().mean().item(), ((gradient - true_gradient).norm() / true_gradient.norm()).item())
        for name, (logprobs, gradient) in {
            "new": of(new, torch.bfloat16),
            "old": of(rounded, torch.bfloat16, 1),
        }.items()
    }
    assert errors["old"] == pytest.approx((2.0e-2, 1.0e-2), rel=0.1)
    assert errors["new"] == pytest.approx((1e-6, 2.3e-3), rel=0.5)


def test_the_gradient_of_the_head_is_summed_over_chunks_in_float32() -> None:
    """600 tokens alike, one a chunk. In bfloat16, where 257 x is 256 x, the sum would stop at 256 times one token's."""
    hidden, ids = torch.ones(600, 2).bfloat16(), torch.zeros(600, dtype=torch.int64)

    def gradient(count: int) -> Tensor:
        weight = torch.zeros(3, 2).bfloat16().requires_grad_()
        logprobs, _ = head_logprobs(hidden[:count], weight, None, ids[:count], temperature=1.0, cap=None, chunk=1)
        logprobs.sum().backward()
        assert weight.grad is not None
        return weight.grad.float()

    torch.testing.assert_close(gradient(600), 600 * gradient(1), rtol=5e-3, atol=0.0)
