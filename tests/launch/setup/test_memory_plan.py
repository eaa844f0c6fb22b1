"""Memory by arithmetic, worked by hand; and the activations against what autograd keeps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from launch.setup import memory_plan
from launch.setup.memory_plan import (
    GB,
    EngineMemory,
    Training,
    classifier_rank,
    engine_alone,
    kept_activations,
    kv_token_bytes,
    layer_activations,
    policy_rank,
    shared_engine,
)
from launch.setup.model_files import architecture
from launch.setup.model_shape import ModelShape, shape_of
from launch.setup.published_models import PUBLISHED
from tests.random_models import make

QWEN3_8B, GEMMA_27B = PUBLISHED["Qwen/Qwen3-8B"], PUBLISHED["google/gemma-2-27b-it"]
H100 = 85.5 * GB


def training(*, ranks: int, stage: int, micro: int, checkpointing: bool = True, cuda: bool = True) -> Training:
    width = 2 if cuda else 4
    return Training(ranks=ranks, zero_stage=stage, micro_tokens=micro, checkpointing=checkpointing, width=width, cuda=cuda)


def test_a_rank_of_an_8b_policy_on_three_gpus() -> None:
    """18 P / 3 = 49.1, the reference 2 P / 3 = 5.5, a bucket of 1 and 2 gathered; the head, gathered and its gradient at 2
    bytes, its sum at 4, of 151,936 x 4,096; 36 layers' inputs of 16,384 x 4,096 x 2 = 4.8, and a layer again 5.1."""
    rank = policy_rank(shape_of(QWEN3_8B), training(ranks=3, stage=3, micro=16384), reference=True)
    assert rank.states / GB == pytest.approx(18 * 8.19074 / 3, abs=0.01)
    assert rank.reference / GB == pytest.approx(2 * 8.19074 / 3, abs=0.01)
    assert rank.buffers == 500e6 * 2 + 1e9 * 2
    assert rank.head == 151936 * 4096 * (2 + 2 + 4)
    assert rank.activations == 16384 * 2 * (36 * 4096 + 14 * 4096 + 8 * 12288)
    assert rank.peak / GB == pytest.approx(49.14 + 5.46 + 3.0 + 4.98 + 9.93 + 2.0, abs=0.01)
    assert rank.peak / GB == pytest.approx(70 + 2 * 8.19 / 3, rel=0.02), "70, had the gradients 2 bytes each"


def test_the_meta_rm_of_27b_on_eight_gpus_and_its_policy_on_32() -> None:
    """No language model's head: the embedding and its gradient. Its attention is flex, so there is no matrix of 8,192^2."""
    shape = shape_of(GEMMA_27B, scalar_head=True)
    rank = classifier_rank(shape, training(ranks=8, stage=3, micro=8192))
    assert rank.peak / GB == pytest.approx(61.26 + 3.0 + 4.72 + 3.47 + 5.89 + 2.0, abs=0.02)
    assert rank.peak / GB == pytest.approx(73 + 2 * 27.2 / 8, rel=0.02)
    policy = policy_rank(shape_of(GEMMA_27B), training(ranks=32, stage=3, micro=8192), reference=True)
    assert policy.peak / GB == pytest.approx(38 + 2 * 27.2 / 32, rel=0.03)


def test_where_logits_are_capped_attention_is_whole_on_cpu_alone() -> None:
    """16.5 bytes a score: 32 heads x 8,192^2 = 2.15e9 scores, 35 GB."""
    shape = shape_of(GEMMA_27B)
    on_gpu, on_cpu = (training(ranks=1, stage=1, micro=8192, cuda=cuda) for cuda in (True, False))
    plain = 8192 * 4 * (10 * 4608 + 8 * 36864)
    whole = layer_activations(shape, on_cpu) - plain
    assert layer_activations(shape, on_gpu) == 8192 * 2 * (14 * 4608 + 8 * 36864)
    assert whole / GB == pytest.approx(16.5 * 32 * 8192**2 / GB) == pytest.approx(35.4, abs=0.1)


@pytest.mark.parametrize(("stage", "whole"), [(1, 6), (2, 2), (3, 0)])
def test_states_by_zero_stage(stage: int, whole: int) -> None:
    """In bfloat16: weights are 2 bytes each, gradients 4, what AdamW holds is 12."""
    shape = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"])
    rank = policy_rank(shape, training(ranks=4, stage=stage, micro=8192), reference=False)
    assert rank.states == pytest.approx(shape.parameters * (whole + (18 - whole) / 4))


@pytest.mark.parametrize(("stage", "held"), [(1, 6), (2, 2), (3, 2)])
def test_an_offloaded_optimiser_is_not_on_the_gpu(stage: int, held: int) -> None:
    """Qwen3-1.7B on one GPU: 10.3 GB at ZeRO 1, 3.4 at 2 and 3, in place of 31. As DeepSpeed's source says: no GPU ran it."""
    shape, plain = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"]), training(ranks=1, stage=stage, micro=8192)
    rank = policy_rank(shape, replace(plain, offload=True), reference=False)
    assert rank.states == held * shape.parameters
    assert rank.step == 0
    assert rank.host == (12 if stage == 1 else 16) * shape.parameters, "float32 weights, two moments; the sums of gradients"
    assert policy_rank(shape, plain, reference=False).host == 0
    on_cpu = training(ranks=1, stage=stage, micro=8192, cuda=False)
    assert policy_rank(shape, replace(on_cpu, offload=True), reference=False) == policy_rank(shape, on_cpu, reference=False)


def test_without_zero_and_in_float32_a_parameter_takes_16_bytes() -> None:
    shape = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"])
    assert policy_rank(shape, training(ranks=4, stage=0, micro=8192), reference=False).states == 16 * shape.parameters
    on_cpu = policy_rank(shape, training(ranks=1, stage=1, micro=8192, cuda=False), reference=False)
    assert on_cpu.states == 16 * shape.parameters


def test_the_optimiser_step_counts_where_it_takes_more_than_the_backward_pass() -> None:
    """1.7 billion on one GPU: 4 bytes of each, beside the states; at ZeRO 3 a thousand million at a time."""
    shape = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"])
    alone = policy_rank(shape, training(ranks=1, stage=1, micro=8192), reference=True)
    assert alone.working == alone.step == 4 * shape.parameters
    assert alone.parts()["optimiser step"] == alone.step
    assert alone.peak == pytest.approx(sum(alone.parts().values()))
    divided = policy_rank(shape_of(QWEN3_8B), training(ranks=4, stage=3, micro=16384), reference=True)
    assert divided.step == 4e9
    assert divided.working == divided.head + divided.activations
    assert divided.peak == pytest.approx(sum(divided.parts().values()))


def test_lora_trains_adapters_beside_frozen_weights_that_are_also_the_reference() -> None:
    """1.7 billion, r = 32: of each of 28 layers q, k, v, o and the MLP have 38,912 rows and columns, so 34.9 million numbers of
    18 bytes beside 2 P; no second copy, and no gradient of the head."""
    shape = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"])
    assert shape.linear == 28 * ((2048 + 2048) + 2 * (2048 + 1024) + (2048 + 2048) + 3 * (2048 + 6144)) == 28 * 38912
    adapters = 32 * shape.linear
    assert adapters / 1e6 == pytest.approx(34.9, abs=0.1)
    rank = policy_rank(shape, replace(training(ranks=1, stage=1, micro=8192), lora_rank=32), reference=True)
    assert rank.states == 2 * shape.parameters + 18 * adapters
    assert (rank.reference, rank.head, rank.step) == (0, 0, 4 * adapters)


def test_an_engine_of_27b_has_a_cache_of_19_gb() -> None:
    """0.9 x 85.5 - 54.5 of weights - 3.6; a token takes 46 x 2 x 16 x 128 x 2 bytes = 377 kB."""
    shape = shape_of(GEMMA_27B)
    engine = engine_alone(shape, width=2, gpu=H100, share=0.9)
    assert kv_token_bytes(shape, 2) == 46 * 2 * 16 * 128 * 2 == 376832
    assert engine.weights / GB == pytest.approx(54.45, abs=0.01)
    assert engine.kv_cache / GB == pytest.approx(18.9, abs=0.1)
    assert engine.peak == pytest.approx(0.9 * H100)
    assert engine.kv_cache // kv_token_bytes(shape, 2) == pytest.approx(50_000, rel=0.01)


def test_several_gpus_of_an_engine_divide_its_weights() -> None:
    shape = shape_of(PUBLISHED["meta-llama/Llama-3.3-70B-Instruct"])
    assert engine_alone(shape, width=2, gpu=H100, share=0.9).kv_cache < 0
    assert engine_alone(shape, width=2, gpu=H100, share=0.9, gpus=2).kv_cache / GB == pytest.approx(2.9, abs=0.3)


def test_an_engine_that_shares_its_gpu_has_the_cache_that_it_is_given() -> None:
    shape = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"])
    assert shared_engine(shape, width=2, kv_cache=8 * GB, cuda=True).kv_cache == 8 * GB
    on_cpu = shared_engine(shape, width=4, kv_cache=8 * GB, cuda=False)
    weights = 4 * shape.parameters
    assert on_cpu == EngineMemory(weights=weights, kv_cache=8 * GB, runtime=0.75 * GB, packed=weights)
    assert on_cpu.peak == sum(on_cpu.parts().values()) == 2 * weights + 8.75 * GB
    assert "adapters" not in on_cpu.parts()
    assert shared_engine(shape, width=2, kv_cache=8 * GB, cuda=False).packed == 0, "bfloat16 is not packed"
    assert "packed weights" not in shared_engine(shape, width=4, kv_cache=8 * GB, cuda=True).parts()


def test_adapters_are_part_of_an_engine_and_on_cpu_twice() -> None:
    """vLLM computes with one copy, and keeps another in the machine's memory."""
    shape = shape_of(PUBLISHED["Qwen/Qwen3-1.7B"])
    one = 2 * 32 * shape.linear
    shared = shared_engine(shape, width=2, kv_cache=8 * GB, cuda=True, lora_rank=32)
    assert shared.adapters == shared.parts()["adapters"] == one
    assert shared_engine(shape, width=2, kv_cache=8 * GB, cuda=False, lora_rank=32).adapters == 2 * one
    alone, with_adapters = (engine_alone(shape, width=2, gpu=H100, share=0.9, lora_rank=rank) for rank in (0, 32))
    assert alone.kv_cache - with_adapters.kv_cache == one
    assert alone.peak == with_adapters.peak


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_kept_activations_are_what_autograd_keeps(kind: str, dtype: str, tmp_path: Path) -> None:
    """Without a head: every tensor that the backward pass of a real model holds on to, counted once."""
    sizes = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3}
    folder = make(tmp_path, kind, num_attention_heads=4, num_key_value_heads=2, **sizes)
    shape = shape_of(architecture(str(folder)) or {})
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").model.to(getattr(torch, dtype))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(1, 512, dtype=torch.int64))
    by = training(ranks=1, stage=1, micro=512, checkpointing=False, cuda=dtype == "bfloat16")
    assert sum(kept.values()) == pytest.approx(kept_activations(shape, by), rel=0.15)


def test_sizes_of_others_are_still_theirs() -> None:
    """Those of the learner, the engine and DeepSpeed, which the plan counts."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    from actors import vllm_build
    from learner import deepspeed_settings

    defaults = DeepSpeedZeroConfig(stage=3)
    assert (defaults.max_live_parameters, defaults.sub_group_size) == (memory_plan.GATHERED, memory_plan.SUB_GROUP)
    assert (memory_plan.BUCKET, memory_plan.LONE_BUCKET) == (deepspeed_settings.BUCKET, deepspeed_settings.LONE_BUCKET)
    assert memory_plan.ENGINE_BATCH == vllm_build.CUDA_BATCHED_TOKENS


def test_a_shape_can_be_written_by_hand() -> None:
    """The formulas need no model: 2 layers, width 4, MLP 8, ten tokens in float32."""
    shape = ModelShape(parameters=1000, active=1000, layers=2, hidden=4, intermediate=8, heads=2, vocabulary=10, cached=4)
    by = training(ranks=1, stage=1, micro=10, checkpointing=False, cuda=False)
    assert kept_activations(shape, by) == 10 * 4 * 2 * (10 * 4 + 4 * 8)
    assert layer_activations(shape, by) == 10 * 4 * 4 * 8
    assert kv_token_bytes(shape, 4) == 2 * 4 * 4
