"""Hidden states of rows whose completions share their prompt as a prefix: which token attends to which (pure torch).

    visible(q, k) = k <= q  and  segment(k) in {0, segment(q)}  [and  position(q) - position(k) < window]

Segment 0 is the prompt; a window bounds the layers with sliding attention.

A completion thus gets the same hidden states as if it stood alone behind its prompt, while the prompt is computed
once for all completions in its row.
"""

from typing import Any

import torch
from torch import Tensor

from learner.batching import Tokens

# Architectures whose models take our mask in every layer; a test compares each with single rows of one completion.
ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3", "gemma2"})


def supports_shared_prefix(config: Any) -> bool:
    """Return whether a model of this (Hugging Face) configuration can take rows of several completions."""
    return config.model_type in ARCHITECTURES


def hidden_states(model: Any, tokens: Tokens) -> Tensor:
    """Return those of the base model inside `model`, [rows * length, hidden], for `Tokens.predicting` and `Tokens.ends`."""
    base = model.base_model
    mask = attention_mask(tokens, base.config, model.dtype)
    states: Tensor = base(
        input_ids=tokens.input_ids, position_ids=tokens.positions, attention_mask=mask, use_cache=False
    ).last_hidden_state
    return states.flatten(0, 1)


def attention_mask(tokens: Tokens, config: Any, dtype: torch.dtype) -> Any:
    """Return the mask of the model's layers: None, one of [rows, 1, length, length], or one per kind of layer.

    Rows of one completion need none: padding is on the right and attention is causal, so no real token attends to it, and
    only without a mask do the fast kernels work.
    """
    segments = tokens.segments
    if int(segments.max()) <= 1:
        return None
    # Each row of a mask holds a True, or its softmax is NaN: padding attends to the prompt.
    before = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    keys, queries = segments[:, None, :], segments[:, :, None]
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
