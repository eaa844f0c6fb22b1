"""Hidden states of rows that branch: which token sees which (pure torch).

    visible(q, k) = k <= q  and  branch(k) in {0, branch(q)}  [and  position(q) - position(k) < window]

A completion thus gets the same hidden states as if it stood alone behind its prompt, while the prompt is computed
once for all completions in its row.
"""

from typing import Any

import torch
from torch import Tensor

from learner.batching import Tokens

BRANCHING = frozenset({"llama", "qwen2", "qwen3", "gemma2"})
"""Architectures whose models take a mask of ours in every layer; a test compares each with its unbranched self."""


def supports_shared_prefix(config: Any) -> bool:
    """Whether rows of several completions may be given to a model of this (Hugging Face) configuration."""
    return config.model_type in BRANCHING


def hidden_states(model: Any, tokens: Tokens) -> Tensor:
    """Of the base model inside ``model``; shape [rows * length, hidden], for ``Tokens.predicting`` and ``ends``."""
    base = model.base_model
    mask = attention_mask(tokens, base.config, model.dtype)
    states: Tensor = base(
        input_ids=tokens.input_ids, position_ids=tokens.positions, attention_mask=mask, use_cache=False
    ).last_hidden_state
    return states.flatten(0, 1)


def attention_mask(tokens: Tokens, config: Any, dtype: torch.dtype) -> Any:
    """What the model's layers are given: nothing, one mask [rows, 1, length, length], or one per kind of layer.

    Rows of one completion need none: padding stands on the right and attention is causal, so no real token sees
    it, and the fast kernels work without a mask only.
    """
    branches = tokens.branches
    if int(branches.max()) <= 1:
        return None
    # Each row of a mask holds a True, or its softmax is NaN: padding sees the prompt.
    before = torch.ones(branches.shape[1], branches.shape[1], dtype=torch.bool, device=branches.device).tril()
    keys, queries = branches[:, None, :], branches[:, :, None]
    visible = before & ((keys == 0) | (keys == queries))
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:
        return _for_layers(visible, config, dtype)
    masks = {"full_attention": visible}
    if "sliding_attention" in kinds:
        distance = tokens.positions[:, :, None] - tokens.positions[:, None, :]
        masks["sliding_attention"] = visible & (distance < config.sliding_window)
    return {kind: _for_layers(masks[kind], config, dtype) for kind in kinds}


def _for_layers(visible: Tensor, config: Any, dtype: torch.dtype) -> Tensor:
    mask = visible[:, None]
    if config._attn_implementation != "eager":
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
