"""Attention that computes little more than what its mask lets through, on GPUs and on CPUs.

    None         scaled_dot_product_attention, causal: its flash kernel on GPUs refuses any mask
    BlockMask    flex_attention on GPUs: computes the blocks that the mask names, and caps scores (Gemma-2)
    Segments     on CPUs: prompts and completions each for themselves (learner/segments.py)

None of them holds [length, length] scores. Masks come from learner/shared_prefix.py: for a model that is loaded so transformers
makes none, whatever it is given (`models.dense_attention` for what needs its masks).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from learner.segments import Segments

# Kernels that torch compiles at most, one for each of: gradient or not, kind of layer, one row or several, one block or
# several. Beyond its own limit of 8 it would compute unfused, with all scores in memory; beyond this one it raises an error.
KERNELS = 64


def block_sparse(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute one layer's attention, with the signature of transformers' attention functions.

    Args:
        module: the layer's attention.
        query: [rows, heads, length, head size].
        key: [rows, shared heads, length, head size].
        value: likewise.
        attention_mask: a `BlockMask`, or None for plain causal attention.
        scaling: factor of the scores; None: 1 / sqrt(head size).
        softcap: soft bound of the scores.
        **options: of the layer, for `scaled_dot_product_attention`.

    Returns:
        [rows, length, heads, head size], and no scores.

    Raises:
        ValueError: there is a cap and no mask; the flash kernel would leave the cap out.
    """
    if attention_mask is None:
        if softcap is not None:
            raise ValueError(f"{type(module).__name__} caps its scores, which needs a mask of blocks")
        return _causal(module, query, key, value, scaling=scaling, **options)
    states = _compiled()(
        query,
        key,
        value,
        score_mod=None if softcap is None else _capping(softcap),
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return states.transpose(1, 2).contiguous(), None


def by_segment(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    segments: Mapping[int | None, Segments] | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute one layer's attention, with the signature of transformers' attention functions.

    Args:
        module: the layer's attention.
        query: [rows, heads, length, head size].
        key: [rows, shared heads, length, head size].
        value: likewise.
        attention_mask: none is made.
        segments: what is to be computed by layers with a window, where that is not plain causal attention.
        sliding_window: of the layer.
        scaling: factor of the scores; None: 1 / sqrt(head size).
        **options: of the layer, for plain causal attention.

    Returns:
        [rows, length, heads, head size], and no scores.
    """
    of_layer = (segments or {}).get(sliding_window)
    if of_layer is None:
        return _causal(module, query, key, value, scaling=scaling, **options)
    return _of_segments(of_layer, query, key, value, scaling), None


def _of_segments(segments: Segments, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    shared = query.shape[1] != key.shape[1]  # between heads

    def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        found = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=shared
        )
        return found.transpose(1, 2).flatten(0, 1)  # [rows * length, heads, head size]

    q, k, v = (states[:, :, : segments.prompt] for states in (query, key, value))
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
    results = [attend(q, k, v, segments.window)]
    for part in segments.completions:
        count = len(part.rows)
        own_q, own_k, own_v = (states.index_select(0, part.places).unflatten(0, (count, -1)).transpose(1, 2) for states in flat)
        keys, values = (
            torch.cat([of_prompts.index_select(0, part.rows), own], dim=2) for of_prompts, own in ((k, own_k), (v, own_v))
        )
        results.append(attend(own_q, keys, values, part.mask))
    rows, length = query.shape[0], query.shape[2]
    return torch.cat(results).index_select(0, segments.sources).unflatten(0, (rows, length))


def _causal(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, None]:
    """Return plain causal attention, as transformers computes it.

    Raises:
        ValueError: keys are kept from earlier tokens. Whoever generates may pad on the left, and the mask of that is lost here.
    """
    if query.shape[2] != key.shape[2]:
        raise ValueError(f"{type(module).__name__} has no mask for generation: generate within models.dense_attention")
    states: tuple[Tensor, None] = AttentionInterface()["sdpa"](module, query, key, value, None, **options)
    return states


@cache
def _capping(cap: float) -> Callable[..., Tensor]:
    def capped(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del row, head, query, key
        return cap * torch.tanh(score / cap)

    return capped


@cache
def _compiled() -> Callable[..., Tensor]:
    """Return the fused kernels; uncompiled, `flex_attention` holds all scores."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(KERNELS, config.recompile_limit)
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, fullgraph=True)
    return compiled
