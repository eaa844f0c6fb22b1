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
    assert s.publishing == pytest.approx(16.38e9 / 3e9 + 16.38e9 / 8e9 + 16.38e9 / 4e9, rel=0.001) == pytest.approx(12, abs=0.5)
    step = (16.38e9 + 256 * 1650 * kv_token_bytes(policy, 2)) / 3.35e12
    assert step == pytest.approx(0.0235, abs=0.0001)
    assert decode_rate(config_of(), policy, kv_cache=CACHE, rates=Rates()) == pytest.approx(256 / step, rel=0.001)
    assert s.generation == pytest.approx(268_800 / (2 * 10_900) + 124_800 * 2 * 8.19e9 / (2 * 400e12), rel=0.01)
    assert s.slower == "training"
    assert s.step == s.learner == s.training + s.publishing


def test_one_engine_and_four_ranks_are_faster() -> None:
    """As the audit found: the engines idled for two thirds of a step."""
    assert seconds("rollout.workers=1", "learner.ranks=4").step < 0.85 * seconds().step


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
