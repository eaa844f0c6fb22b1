"""Heads that vLLM on a CPU has no kernel for are refused at the door."""

import pytest

from configs.load import ConfigError, load
from launch.setup.engine_heads import CPU_SIZES, check_heads, head_size

ODD = {"hidden_size": 64, "num_attention_heads": 4}


def test_heads_without_a_kernel_are_refused_with_the_sizes_that_there_are() -> None:
    with pytest.raises(ConfigError, match="have 16 numbers each, and vLLM on a CPU takes 32, 64, "):
        check_heads(load("tiny"), ODD)


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        (ODD, 16),
        (ODD | {"head_dim": 32}, 32),
        (ODD | {"head_dim": None}, 16),
        ({"n_embd": 64, "n_head": 2}, 32),
        ({"text_config": {"head_dim": 128}}, 128),
        ({"kv_lora_rank": 8, "head_dim": 7}, 0),
        ({"head_dim": "wide"}, 0),
        ({}, 0),
    ],
)
def test_the_size_is_read_as_models_write_it(arch: dict[str, object], size: int) -> None:
    assert head_size(arch) == size


@pytest.mark.parametrize("arch", [None, {}, ODD | {"head_dim": 64}])
def test_what_can_be_decoded_or_is_not_known_passes(arch: dict[str, object] | None) -> None:
    check_heads(load("tiny"), arch)


def test_a_card_has_kernels_of_its_own() -> None:
    check_heads(load("qwen3-8b"), ODD)


@pytest.mark.slow
def test_the_sizes_are_those_of_vllm() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert list(CPU_SIZES) == CPUAttentionBackend.get_supported_head_sizes()
