"""Segment by segment, attention sees what the formula of learner/shared_prefix.py says, and computes little else."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from learner.attention import by_segment
from learner.batching import Tokens
from learner.models import load_policy
from learner.segments import segments_of
from learner.shared_prefix import BY_SEGMENT, segments_by_window, visible
from tests import random_models
from tests.learner.attention_by_hand import packed

HEADS, SHARED, SIZE = 4, 2, 16


def states(tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
    """Return random queries, keys and values of a layer whose heads share keys in pairs."""
    rng, (rows, length) = torch.Generator().manual_seed(0), tokens.input_ids.shape
    q, k, v = (torch.randn(rows, heads, length, SIZE, generator=rng, requires_grad=True) for heads in (HEADS, SHARED, SHARED))
    return q, k, v


def densely(tokens: Tokens, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention under the formula as a mask; padding, which may see nothing, sees itself."""
    rows, length = tokens.input_ids.shape
    row, at = torch.arange(rows), torch.arange(length)
    mask = visible(tokens, window)(row[:, None, None], row, at[:, None], at) | torch.eye(length, dtype=torch.bool)
    keys, values = (shared.repeat_interleave(HEADS // SHARED, dim=1) for shared in (k, v))
    return scaled_dot_product_attention(q, keys, values, attn_mask=mask[:, None]).transpose(1, 2)


def rows(seed: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return lengths of prompts and of their completions."""
    rng = random.Random(seed)
    return [(rng.randint(1, 12), tuple(rng.randint(1, 15) for _ in range(rng.randint(1, 5)))) for _ in range(rng.randint(1, 4))]


@pytest.mark.parametrize("window", [None, 3, 8, 40])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_attention_under_the_formula(window: int | None, seed: int) -> None:
    """Values and gradients."""
    tokens = packed(rows(seed), share=True)
    real = tokens.segments >= 0
    segments, found = segments_of(tokens, window), []
    for name in ("by segment", "dense"):
        inputs = states(tokens)
        if name == "dense":
            outputs = densely(tokens, window, *inputs)
        else:
            outputs, _ = by_segment(nn.Identity(), *inputs, None, segments={window: segments}, sliding_window=window)
        (outputs[real] * torch.arange(SIZE)).sum().backward()
        found.append([outputs[real], *(states.grad for states in inputs)])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)


def pairs(tokens: Tokens) -> int:
    """Return how many pairs of tokens are computed."""
    segments = segments_of(tokens, None)
    of_prompts = len(tokens.input_ids) * segments.prompt**2
    return of_prompts + sum(part.mask.numel() for part in segments.completions)


def test_pairs_that_are_computed() -> None:
    prompt, count, length = 300, 4, 80
    alike = packed([(prompt, (length,) * count)], share=True)
    assert pairs(alike) == prompt**2 + count * length * (prompt + length) == 211_600
    assert alike.input_ids.numel() ** 2 == 384_400, "by a mask over the row"


def test_a_long_completion_does_not_widen_the_short_ones() -> None:
    tokens = packed([(10, (3, 100, 60, 5, 40, 2, 1))], share=True)
    parts = segments_of(tokens, None).completions
    assert [tuple(part.mask.shape) for part in parts] == [(2, 1, 100, 110), (1, 1, 40, 50), (2, 1, 5, 15), (2, 1, 2, 12)]


def test_layers_that_are_plainly_causal_have_none(tmp_path: Path) -> None:
    config: Any = load_policy(str(random_models.make(tmp_path, "gemma3_text")), "float32", "cpu").config
    assert config._attn_implementation == BY_SEGMENT
    config.sliding_window = 8
    assert segments_by_window(packed([(3, (4,))], share=True), config) == {}
    assert segments_by_window(packed([(9, (4,))], share=True), config).keys() == {8}, "longer than the window"
    assert segments_by_window(packed([(3, (4, 2))], share=True), config).keys() == {None, 8}
