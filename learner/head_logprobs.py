"""The output head and what follows it as one differentiable function: log-probs of chosen tokens from hidden states.

    z_t = cap(W h_t + b) / T                  [vocabulary], cap(x) = c tanh(x / c), or x without a cap
    logprob_t = log softmax(z_t)[target_t]    entropy_t = -sum_v p_tv log p_tv,  p_t = softmax(z_t)

    for g_t = dL/dlogprob_t:   d_t = g_t / T * (onehot(target_t) - p_t) * cap'(W h_t + b),  cap'(x) = 1 - (cap(x) / c)^2
                               dh_t = W^T d_t     dW = sum_t d_t h_t^T     db = sum_t d_t

Logits are float32 whatever the weights are (float64 stays): in bfloat16 a logit of 16 to 32 is off by up to 1/16. They are made
for a chunk of tokens at a time, forwards and once more backwards, so that no more of [tokens, vocabulary] than a chunk is ever
held. What is a single chunk is kept and not computed again. dW is summed over all chunks in float32 and rounded once.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SLAB = 1 << 15  # rows of dW that one matrix product on a GPU adds: what is held beside dW is this by the hidden size


def head_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    temperature: float,
    cap: float | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Return log-probs (<= 0) of `targets` and entropies (>= 0, nats, without gradient), [T] float32 (float64 of float64).

    Args:
        hidden: [T, hidden], what the head reads.
        weight: [vocabulary, hidden], of the head.
        bias: [vocabulary], of the head, if it has one.
        targets: [T] int64, token ids.
        temperature: T > 0; logits are divided by it, after the cap.
        cap: soft bound c of the logits, if there is one.
        chunk: tokens whose logits are held at a time: two copies of [chunk, vocabulary] float32, three with a cap.
    """
    outputs: tuple[Tensor, Tensor] = _HeadLogProbs.apply(hidden, weight, bias, targets, temperature, cap, chunk)
    return outputs


class _HeadLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        cap: float | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        chosen, entropies, kept = [], [], None
        for rows, ids in zip(hidden.split(chunk), targets.split(chunk), strict=True):
            log_p = torch.log_softmax(_cooled(_capped(rows, weight, bias, cap), temperature), dim=-1)
            chosen.append(log_p.gather(1, ids[:, None])[:, 0])
            entropies.append(log_p.exp().mul_(log_p).sum(dim=-1).neg_())
            kept = log_p if len(rows) == len(hidden) and cap is None else None
            del log_p  # not held while the next chunk is computed
        ctx.save_for_backward(hidden, weight, bias, targets, kept)
        ctx.temperature, ctx.cap, ctx.chunk = temperature, cap, chunk
        logprobs, entropy = torch.cat(chosen), torch.cat(entropies)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, kept = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        d_hidden: list[Tensor] = []
        d_weight = torch.zeros_like(weight, dtype=_wide(weight)) if for_weight else None
        d_bias = torch.zeros_like(bias, dtype=_wide(bias)) if for_bias else None
        chunks = (tensor.split(ctx.chunk) for tensor in (hidden, targets, grad / ctx.temperature))
        for rows, ids, factors in zip(*chunks, strict=True):
            if kept is not None:
                d, slope = kept.exp(), None
            else:
                logits = _capped(rows, weight, bias, ctx.cap)
                slope = None if ctx.cap is None else 1.0 - (logits / ctx.cap).square_()
                d = torch.softmax(_cooled(logits, ctx.temperature), dim=-1)
                del logits
            d.mul_(-factors[:, None]).scatter_add_(1, ids[:, None], factors[:, None])
            if slope is not None:
                d.mul_(slope)
            if d_bias is not None:
                d_bias += d.sum(dim=0)
            d = d.to(weight.dtype)  # as the operands of all matrix products of a model in this dtype
            if for_hidden:
                d_hidden.append(_product(d, weight).to(hidden.dtype))
            if d_weight is not None:
                _add_product(d_weight, d.t(), rows)
            del d, slope
        return (
            torch.cat(d_hidden) if for_hidden else None,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            *(None,) * 4,
        )


def _capped(hidden: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None) -> Tensor:
    """Return the logits before the temperature, in a tensor of their own."""
    logits = _product(hidden, weight.t())
    if bias is not None:
        logits += bias
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _cooled(logits: Tensor, temperature: float) -> Tensor:
    """Return them divided by the temperature, in place."""
    return logits if temperature == 1.0 else logits.div_(temperature)


def _wide(tensor: Tensor) -> torch.dtype:
    """Return the dtype to sum in."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b, summed in float32 and not rounded to the dtype of `a` and `b`."""
    if a.dtype == _wide(a):
        return a @ b
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()  # the same numbers: only on CUDA has `mm` an `out_dtype`


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to `total`, [rows of a, columns of b], likewise."""
    if not a.is_cuda or a.dtype == total.dtype:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))
        return
    for part, rows in zip(total.split(SLAB), a.split(SLAB), strict=True):
        part += _product(rows, b)
