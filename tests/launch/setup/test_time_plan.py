"""Seconds by formula, against an example that is worked by hand."""

from typing import Any

import pytest

from configs.load import load
from configs.schema import Config
from launch.setup.memory_plan import GB, kv_token_bytes
from launch.setup.model_shape import ModelShape, shape_of
from launch.setup.published_models import PUBLISHED
from launch.setup.time_plan import Rates, StepSeconds, assumed_lengths, decode_rate, step_seconds

CACHE = 52.6 * GB


def config_of(*changes: str) -> Config:
    """2 engines, 3 learner ranks, 3 meta-RM ranks; a prompt is read once a group."""
    split = ("rollout.workers=2", "learner.ranks=3", "meta_rm.ranks=3", "rollout.orders=1")
    return load("qwen3-8b", [*split, *changes])


def shapes() -> tuple[ModelShape, ModelShape]:
    arch: Any = PUBLISHED["Qwen/Qwen3-8B"]
    return shape_of(arch), shape_of(arch, scalar_head=True)


def seconds(*changes: str, kv_cache: float = CACHE) -> StepSeconds:
    config = config_of(*changes)
    policy, meta = shapes()
    given = meta if config.meta_rm.enabled else None
    return step_seconds(config, policy, meta=given, kv_cache=kv_cache, rates=Rates())


def test_a_step_of_8b_on_eight_gpus() -> None:
    """96 x (1,300 + 4 x 700) = 394k tokens; the learner 10 P a token on 3 GPUs, the meta-RM 8 P on 3; 2 engines of 256
    sequences at 1,650 tokens: (16.4 + 62.3) GB / 3.35e12 = 23.5 ms, so 10.9k tokens a second each, for 269k tokens."""
    s, policy = seconds(), shapes()[0]
    assert s.training == pytest.approx(393_600 * 10 * 8.19e9 / (3 * 400e12), rel=0.001) == pytest.approx(27, abs=0.2)
    assert s.meta_rm == pytest.approx(393_600 * 8 * 7.57e9 / (3 * 400e12), rel=0.001) == pytest.approx(20, abs=0.2)
    assert s.publishing == pytest.approx(16.38e9 / 25e9, rel=0.001) == pytest.approx(0.66, abs=0.01)
    step = (16.38e9 + 256 * 1650 * kv_token_bytes(policy, 2)) / 3.35e12
    assert step == pytest.approx(0.0235, abs=0.0001)
    assert decode_rate(config_of(), policy, kv_cache=CACHE, rates=Rates()) == pytest.approx(256 / step, rel=0.001)
    assert s.generation == pytest.approx(268_800 / (2 * 10_900) + 124_800 * 2 * 8.19e9 / (2 * 400e12), rel=0.01)
    assert s.slower == "training"
    assert s.step == s.learner == s.training + s.publishing


def test_one_engine_and_four_ranks_wait_for_the_engine_a_little() -> None:
    """Two engines idle for half of a step of three ranks; one is the slower side of four ranks, by a tenth of the step."""
    s = seconds("rollout.workers=1", "learner.ranks=4")
    assert seconds().generation < 0.6 * seconds().step
    assert s.step == s.generation == pytest.approx(1.08 * seconds().step, rel=0.02)


def test_two_orders_read_two_prompts() -> None:
    assert seconds("rollout.orders=2").training / seconds().training == pytest.approx((2 * 1300 + 2800) / (1300 + 2800))


def test_what_a_cache_does_not_hold_is_not_decoded_at_a_time() -> None:
    """A tenth of the cache holds 18 groups of 1,300 + 4 x 350 tokens at 147 kB, and weights are read as often for fewer."""
    policy = shapes()[0]
    groups = 0.1 * CACHE / (147456 * (1300 + 1400))
    assert groups == pytest.approx(13.2, abs=0.1)
    expected = 4 * groups / ((16.38e9 + 4 * groups * 1650 * 147456) / 3.35e12)
    assert decode_rate(config_of(), policy, kv_cache=0.1 * CACHE, rates=Rates()) == pytest.approx(expected, rel=0.001)


def test_without_a_kl_term_there_is_no_reference_and_without_checkpointing_nothing_is_computed_again() -> None:
    assert seconds("grpo.beta=0.0").training == pytest.approx(0.8 * seconds().training)
    assert seconds("learner.gradient_checkpointing=false").training == pytest.approx(0.8 * seconds().training)


def test_with_adapters_frozen_weights_have_no_gradient_and_little_is_published() -> None:
    """2 P forward, 2 P back, 2 P again, 2 P for the reference; 87 million numbers of 8.19 billion."""
    lora, policy = seconds("learner.lora_rank=32", "learner.zero_stage=1", "meta_rm.zero_stage=1"), shapes()[0]
    assert lora.training == pytest.approx(0.8 * seconds().training)
    share = 32 * policy.linear / policy.parameters
    assert share == pytest.approx(0.0107, abs=0.0001)
    assert lora.publishing / seconds().publishing == pytest.approx(share)


def test_sides_that_wait_for_each_other_or_share_a_gpu_add_up() -> None:
    together = seconds("grpo.max_staleness=0")
    assert together.step == together.generation + together.learner
    one = ("cluster.share_gpu=true", "rollout.workers=1", "learner.ranks=1", "meta_rm.ranks=1")
    shared = seconds(*one)
    assert shared.step == shared.generation + shared.learner + shared.meta_rm
    assert seconds(*one, "meta_rm.enabled=false").meta_rm == 0


def test_lengths_stay_within_the_limits_of_the_config() -> None:
    lengths = assumed_lengths(load("tiny"))
    assert (lengths.prompt, lengths.completion) == (192, 64)
