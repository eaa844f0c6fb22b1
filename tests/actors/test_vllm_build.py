"""vLLM's arguments, and errors of its construction. Imports no vLLM."""

from dataclasses import replace
from pathlib import Path

import pytest

from actors.vllm_build import CUDA_BATCHED_TOKENS, UNASKED, VllmSettings, arguments, build_engine
from actors.vllm_engine import VllmEngine

ON_CUDA = VllmSettings(
    model_path="m",
    dtype="bfloat16",
    context=4096,
    sequences=256,
    kv_cache_bytes=None,
    gpu_memory=0.9,
    seed=1,
    device="cuda",
)


def test_on_a_gpu_of_its_own_the_cache_is_what_the_share_leaves() -> None:
    told = arguments(ON_CUDA)
    assert (told["gpu_memory_utilization"], told["kv_cache_memory_bytes"]) == (0.9, None)


def test_a_cache_with_a_size_asks_for_no_share_of_the_gpu() -> None:
    told = arguments(replace(ON_CUDA, kv_cache_bytes=3 << 30))
    assert (told["gpu_memory_utilization"], told["kv_cache_memory_bytes"]) == (UNASKED, 3 << 30)


def test_a_step_on_a_gpu_holds_more_than_vllm_would_take_and_a_token_of_each_sequence() -> None:
    assert arguments(ON_CUDA)["max_num_batched_tokens"] == CUDA_BATCHED_TOKENS == 8192
    assert arguments(replace(ON_CUDA, sequences=10_000))["max_num_batched_tokens"] == 10_000


def test_on_cpu_a_step_holds_a_whole_prompt_and_the_cache_needs_a_size() -> None:
    on_cpu = replace(ON_CUDA, device="cpu", context=9000, kv_cache_bytes=1 << 20)
    told = arguments(on_cpu)
    assert (told["max_num_batched_tokens"], told["kv_cache_memory_bytes"]) == (9000, 1 << 20)
    assert "gpu_memory_utilization" not in told
    assert told["attention_backend"] == "CPU_MLA", "in float32 on whichever processor"
    assert "attention_backend" not in arguments(ON_CUDA)
    with pytest.raises(ValueError, match=r"rollout\.kv_cache_mb"):
        build_engine(replace(on_cpu, kv_cache_bytes=None))


def test_an_error_of_the_construction_reaches_the_caller_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = SystemExit("a library ended the thread")

    def fail(settings: VllmSettings) -> None:
        raise error

    monkeypatch.setattr("actors.vllm_engine.build_engine", fail)
    with pytest.raises(SystemExit) as raised:
        VllmEngine(ON_CUDA)
    assert raised.value is error
