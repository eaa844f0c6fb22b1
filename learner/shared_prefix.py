"""Hidden states of rows whose completions share their prompt as a prefix: which token attends to which (pure torch).

    visible(q, k) = k <= q  and  segment(k) in {0, segment(q)}  [and  position(q) - position(k) < window]

Segment 0 is the prompt; a window bounds the layers with sliding attention.

A completion thus gets the same hidden states as if it stood alone behind its prompt, while the prompt is computed
once for all completions in its row. How a model's attention takes `visible` depends on what it was loaded with
(learner/models.py): as a mask of blocks of which a kernel computes those that hold something, as segments that are
computed each for itself, or as a dense mask.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from learner.batching import Tokens
from learner.segments import Segments, segments_of

# Architectures whose models take our mask in every layer; a test compares each with single rows of one completion.
ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3", "gemma2", "gemma3_text"})

# How learner/attention.py computes it, on GPUs and on CPUs, as `config._attn_implementation` names it.
BLOCK_SPARSE, BY_SEGMENT = "block_sparse", "by_segment"

Visible = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Returns whether a query sees a key, from the indices (row, head, query, key), which broadcast."""


def supports_shared_prefix(config: Any) -> bool:
    """Return whether a model of this (Hugging Face) configuration can take rows of several completions."""
    return config.model_type in ARCHITECTURES


def hidden_states(model: Any, tokens: Tokens) -> Tensor:
    """Return those of the base model inside `model`, [rows * length, hidden], for `Tokens.predicting` and `Tokens.ends`."""
    base = model.base_model
    if base.config._attn_implementation == BY_SEGMENT:  # transformers passes on to each layer what it does not know
        attended: dict[str, Any] = {"segments": segments_by_window(tokens, base.config)}
    else:
        attended = {"attention_mask": attention_mask(tokens, base.config, model.dtype)}
    states: Tensor = base(
        input_ids=tokens.input_ids, position_ids=tokens.positions, use_cache=False, **attended
    ).last_hidden_state
    return states.flatten(0, 1)


def segments_by_window(tokens: Tokens, config: Any) -> dict[int | None, Segments]:
    """Return what the layers with each window compute; those that are left out are plainly causal."""
    shared, length = int(tokens.segments.max()) > 1, tokens.input_ids.shape[1]
    windows = _windows(config).values()
    return {window: segments_of(tokens, window) for window in windows if shared or _is_more_than_causal(config, window, length)}


def attention_mask(tokens: Tokens, config: Any, dtype: torch.dtype) -> Any:
    """Return the mask of the model's layers: None, one of [rows, 1, length, length], or one per kind of layer.

    Rows of one completion need none: padding is on the right and attention is causal, so no real token attends to it, and
    only without a mask do the fastest kernels work. What else their layers need, a window or a cap, transformers sees to,
    or we where attention is `BLOCK_SPARSE`.
    """
    shared = int(tokens.segments.max()) > 1
    in_blocks = config._attn_implementation == BLOCK_SPARSE
    if not shared and not in_blocks:
        return None
    windows = _windows(config)
    masks: dict[str, Any] = {}
    for kind, window in windows.items():
        sees = visible(tokens, window)
        if not in_blocks:
            masks[kind] = _dense(tokens, sees, dtype)
        elif shared or _is_more_than_causal(config, window, tokens.input_ids.shape[1]):
            masks[kind] = _blocks(tokens, sees)
    if not masks:
        return None
    has_kinds = bool(getattr(config, "layer_types", None))
    return {kind: masks.get(kind) for kind in windows} if has_kinds else masks["full_attention"]


def _windows(config: Any) -> dict[str, int | None]:
    """Return the window of each kind of layer that the model has, and of those without one."""
    windows: dict[str, int | None] = {"full_attention": None}
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        windows["sliding_attention"] = config.sliding_window
    return windows


def visible(tokens: Tokens, window: int | None) -> Visible:
    """Return the formula above for some rows, of layers with this window."""
    segments, positions = tokens.segments.int(), tokens.positions.int()

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del head
        of = segments[row, key]
        seen = (key <= query) & ((of == 0) | (of == segments[row, query]))
        return seen if window is None else seen & (positions[row, key] > positions[row, query] - window)

    return sees


def _is_more_than_causal(config: Any, window: int | None, length: int) -> bool:
    """Return whether rows of one completion need a mask: flash attention knows neither windows nor caps here."""
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return capped or (window is not None and window < length)


def _blocks(tokens: Tokens, sees: Visible) -> Any:
    """Return a mask of blocks of 128 queries by 128 keys.

    It is made from a dense one of bool, so for a moment some copies of [rows, length, length] bytes are held: 1.3 GB for a
    single row of 16,384 tokens.
    """
    rows, length = tokens.input_ids.shape
    return create_block_mask(sees, rows, None, length, length, device=tokens.input_ids.device)


def _dense(tokens: Tokens, sees: Visible, dtype: torch.dtype) -> Tensor:
    """Return a mask that is added to the scores: [rows, 1, length, length].

    Each row of it holds a 0, or its softmax is NaN: padding attends to the prompt.
    """
    rows, length = tokens.input_ids.shape
    row, at = (torch.arange(size, device=tokens.input_ids.device) for size in (rows, length))
    mask = sees(row[:, None, None], row, at[:, None], at)[:, None]
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
