"""Flex attention with a mask of blocks, and the flash path without a mask, against dense masks: log-probs, gradients, speed.

The device that a model is loaded for decides how it computes attention (`learner.models`), so the dense one is loaded for a CPU
and moved. On a CPU flex attention runs unfused. It needs torch and transformers alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from learner.batching import Tokens
from learner.logprobs import TokenLogProbs
from learner.models import load_policy
from tests import random_models
from tests.gpu.figures import Figure, figure
from tests.gpu.meter import PeakMemory, of_a_card, seconds
from tests.gpu.parts import Device
from tests.learner.attention_by_hand import packed, unfused_flex_attention

How = Literal["dense", "blocks"]
HOW: tuple[How, How] = ("dense", "blocks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is computed."""

    kinds: tuple[str, ...]
    """Architectures that are compared: Gemma-2 has a cap on scores and a window as well."""
    shape: dict[str, Any]
    """Of each, changes of `random_models.SHAPE`."""
    lengths: list[tuple[int, tuple[int, ...]]]
    """Tokens of each prompt and of its completions, of what is compared."""
    long: tuple[int, tuple[int, ...]]
    """The same of the one row that is timed."""
    timed: dict[str, Any]
    """Shape of what is timed."""


WIDE: dict[str, Any] = {"hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 128}
WIDE |= {"intermediate_size": 2048, "max_position_embeddings": 16_384, "initializer_range": 0.05}
SIZES = {
    "cpu": Sizes(kinds=("gemma2",), shape={}, lengths=[(150, (40, 90)), (9, (5,))], long=(200, (60, 60)), timed={}),
    "cuda": Sizes(
        kinds=("llama", "qwen3", "gemma2", "gemma3_text"),
        shape=WIDE,
        lengths=[(700, (310, 190, 256)), (130, (40, 90)), (9, (5,))],
        long=(1_300, (1_700, 1_700, 1_700, 1_700)),
        timed=WIDE | {"hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8, "num_hidden_layers": 2},
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Where and how much."""

    device: Device
    """Where it computes."""
    sizes: Sizes
    """On it."""
    folder: Path
    """For models."""


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(unfused_flex_attention())
        yield Subject(device=device, sizes=SIZES[device], folder=folder)


def loaded(subject: Subject, folder: Path, how: How, dtype: str) -> Any:
    model: Any = load_policy(str(folder), dtype, "cuda" if how == "blocks" else "cpu")
    return model.to(subject.device)


def computed(model: Any, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns log-probs, and the gradients of a weighted sum of them, in float32."""
    tokens = tokens.to(model.device)
    logprobs, _ = TokenLogProbs(model, temperature=0.7)(tokens)
    factors = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(0)).to(model.device)
    (logprobs * factors).sum().backward()
    return logprobs.detach(), {name: parameter.grad.float() for name, parameter in model.named_parameters()}


def errors(found: tuple[Tensor, dict[str, Tensor]], truth: tuple[Tensor, dict[str, Tensor]]) -> tuple[float, float]:
    """Returns the mean error of a log-prob in nats, and the largest relative error of a parameter's gradient."""
    gradients = [float((gradient - truth[1][name]).norm() / truth[1][name].norm()) for name, gradient in found[1].items()]
    return float((found[0] - truth[0]).abs().mean()), max(gradients)


def blocks_equal_dense_masks(subject: Subject) -> Iterator[Figure]:
    """In float32 to rounding; in bfloat16 no further from float32 than dense masks are, but for chance."""
    for kind in subject.sizes.kinds:
        windows = {"sliding_window": 64} if kind.startswith("gemma") else {}
        folder = random_models.make(subject.folder / kind, kind, **subject.sizes.shape | windows)
        for share, row in ((True, "shared prompts"), (False, "lone rows")):
            tokens = packed(subject.sizes.lengths, share=share)
            truth = computed(loaded(subject, folder, "dense", "float32"), tokens)
            exact = errors(computed(loaded(subject, folder, "blocks", "float32"), tokens), truth)
            yield figure(f"{kind}, {row}, float32: log-probs, mean difference", exact[0], "nats", most=1e-4)
            yield figure(f"{kind}, {row}, float32: gradients, relative difference", exact[1], most=1e-3)
            dense, blocks = (errors(computed(loaded(subject, folder, how, "bfloat16"), tokens), truth) for how in HOW)
            yield figure(f"{kind}, {row}, bfloat16: error of log-probs beside dense masks'", blocks[0] / dense[0], most=1.5)
            yield figure(f"{kind}, {row}, bfloat16: error of gradients beside dense masks'", blocks[1] / dense[1], most=2.0)


def lone_rows_take_the_flash_kernel(subject: Subject) -> Iterator[Figure]:
    """Torch raises an error where that kernel alone is allowed and cannot be taken. By itself it may take another fast one."""
    folder = random_models.make(subject.folder / "lone", "qwen3", **subject.sizes.shape)
    model, tokens = loaded(subject, folder, "blocks", "bfloat16"), packed(subject.sizes.lengths, share=False)
    chosen = computed(model, tokens)[0]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        flash = computed(model, tokens)[0]
    apart = (flash - chosen).abs().mean()
    yield figure("lone rows: log-probs by the flash kernel, off those by torch's choice", apart, "nats", most=0.02)


def blocks_are_faster_and_smaller(subject: Subject) -> Iterator[Figure]:
    """Of one long row, forward and backward, in bfloat16, the head included."""
    folder = random_models.make(subject.folder / "timed", "qwen3", **subject.sizes.timed)
    tokens, taken, held = packed([subject.sizes.long], share=True).to(subject.device), {}, {}
    for how in HOW:
        policy = TokenLogProbs(loaded(subject, folder, how, "bfloat16"), temperature=1.0)

        def both_ways(policy: TokenLogProbs = policy) -> None:
            policy(tokens)[0].sum().backward()
            policy.zero_grad(set_to_none=True)

        both_ways()  # the first compiles
        memory = PeakMemory(subject.device)
        taken[how] = min(seconds(both_ways) for _ in range(3))
        held[how] = memory.added()
        yield figure(f"{how}, one row of {tokens.input_ids.numel()} tokens", 1e3 * taken[how], "ms")
    faster = taken["dense"] / taken["blocks"]
    yield of_a_card("speed of blocks beside dense masks'", faster if subject.device == "cuda" else None, least=1.0)
    dense, blocks = held["dense"], held["blocks"]
    yield of_a_card("memory of blocks beside dense masks'", None if not dense or blocks is None else blocks / dense, most=1.0)


CHECKS = (blocks_equal_dense_masks, lone_rows_take_the_flash_kernel, blocks_are_faster_and_smaller)
