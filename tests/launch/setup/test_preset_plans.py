"""The plan of a preset of each kind, worked by hand from its model's config.json: one card with adapters, one card with all
weights, one node, several nodes. Figures are in units of 10^9; each is rounded to a hundredth."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from configs.load import load
from launch.setup.memory_plan import GB
from launch.setup.model_files import architecture, resolve
from launch.setup.model_shape import shape_of
from launch.setup.planned_processes import PlannedProcess, Shapes, overfull
from launch.setup.resource_plan import Plan, describe, planned


def plan_of(preset: str) -> Plan:
    config = load(preset)
    return planned(config, config.model.path)


def agrees(process: PlannedProcess, count: int, by_hand: Mapping[str, float]) -> None:
    assert process.count == count
    assert process.parts.keys() == by_hand.keys()
    assert {name: size / GB for name, size in process.parts.items()} == pytest.approx(by_hand, abs=0.005)


def estimate(plan: Plan) -> str:
    return next(line for line in describe(plan).splitlines() if line.startswith("estimate"))


def test_adapters_on_one_card() -> None:
    """Qwen3-0.6B: 28 layers, h 1,024, i 3,072, q 2,048, k and v 1,024; P 0.596. A layer's matrices have 22,528 rows and
    columns, so r = 32 trains 20.19 million. Micro-batches of 4,096 tokens.

    engine      2 P; 2 x 0.0202; 4,096 MiB; 1.5 + 8,192 x 2 x (4 h + 3 i)
    policy      2 P + 18 x 0.0202; two buckets of 0.0202 x 2; 4,096 x 2 x 28 h + logits 3 x 4 x 2^28; 1.5
    meta-RM     the same, with a layer again in place of the logits: 4,096 x 2 x (14 h + 8 i)
    """
    plan = plan_of("qwen3-0.6b-1gpu")
    engine, _, policy, meta_rm = plan.processes
    agrees(engine, 1, {"weights": 1.192, "adapters": 0.040, "KV cache": 4.295, "runtime": 1.718})
    agrees(policy, 1, {"states": 1.555, "buffers": 0.081, "activations": 0.235 + 3.221, "runtime": 1.5})
    agrees(meta_rm, 1, {"states": 1.555, "buffers": 0.081, "activations": 0.235 + 0.319, "runtime": 1.5})
    assert plan.room.tokens == (4096 << 20) // (28 * 2 * 1024 * 2)
    assert plan.room.groups == int(plan.room.tokens / (2 * 1300 + 4 * 350)) == 9
    assert "memory     17.5 GB planned in all, 6.5 left" in describe(plan), "7.24 + 6.59 + 3.69 of 24"


def test_all_weights_on_one_card() -> None:
    """Qwen3-1.7B: 28 layers, h 2,048, i 6,144; P 1.7206.

    engine      2 P; 14,336 MiB; 1.5 + 8,192 x 2 x (4 h + 3 i)
    policy      18 P; 2 P; two buckets of 0.05 x 2; the optimiser's 4 P, more than head 1.24 and activations 0.94 + 3.22; 1.5

    A step trains 32 x (2 x 1,300 + 4 x 700) = 172,800 tokens at 10 P: 7.4 s. It decodes 89,600 with 96 sequences at a time,
    which read 2 P + 96 x 1,650 x 114,688 bytes a token: 6.5 ms, 6.0 s; prompts are read in 32 x 2,600 x 2 P / 400e12 = 0.7 s.
    """
    plan = plan_of("qwen3-1.7b-1gpu")
    engine, _, policy = plan.processes
    agrees(engine, 1, {"weights": 3.441, "KV cache": 15.032, "runtime": 1.936})
    agrees(policy, 1, {"states": 30.970, "reference": 3.441, "buffers": 0.2, "optimiser step": 6.882, "runtime": 1.5})
    assert "memory     63.4 GB planned in all, 21.6 left" in describe(plan), "20.41 + 42.99 of 85"
    assert "a step takes about 14 s: generation 7 s; training 7 s + publishing 0 s; training is the slower" in estimate(plan)
    assert "400 steps in about 1.6 hours, by formula" in describe(plan), "and not 0.1 days"


def test_one_node() -> None:
    """Qwen3-8B: 36 layers, h 4,096, i 12,288, V 151,936; P 8.1907, with a row in place of the head 7.5684. Micro-batches of
    16,384 tokens.

    engine      2 P; 0.9 x 85 without the rest; 1.5 + 8,192 x 2 x (4 h + 3 i)
    policy      18 P / 4; 2 P / 4; a bucket of 0.5 x 2 and 2 gathered; V h (2 + 2 + 4); 16,384 x 2 x (36 h + 14 h + 8 i); 2
    meta-RM     18 x 7.5684 / 3; the same; V h (2 + 2); the same

    A step trains 96 x 5,400 = 518,400 tokens at 10 P on 4 GPUs: 26.5 s, and copies 16.4 GB at 25: 0.7 s. Its one engine reads
    96 x 2,600 tokens of prompts in 10.2 s, and decodes 268,800 at 256 / (78.7 / 3,350) a second in 24.7 s.
    """
    plan = plan_of("qwen3-8b")
    engine, _, policy, meta_rm = plan.processes
    agrees(engine, 1, {"weights": 16.381, "KV cache": 57.746, "runtime": 2.372})
    working = {"buffers": 3.0, "activations": 4.832 + 5.100, "runtime": 2.0}
    agrees(policy, 4, {"states": 36.858, "reference": 4.095, "head": 4.979, **working})
    agrees(meta_rm, 3, {"states": 45.410, "head": 2.489, **working})
    assert "a step takes about 35 s: generation 35 s; training 27 s + publishing 1 s, meta-RM 26 s beside" in estimate(plan)
    assert "nodes      of 8 GPUs: 1: policy 4, meta-RM 3, engine 1" in describe(plan)


def test_several_nodes() -> None:
    """Gemma-2-27B: 46 layers, h 4,608, i 36,864, V 256,000, tied; P 27.2271. Micro-batches of 8,192.

    engine      2 P; 0.9 x 85 without the rest, 48,912 tokens of 376,832 bytes; 1.5 + 8,192 x 2 x (4 h + 3 i)
    policy      18 P / 32; 2 P / 32; a bucket of 0.5 x 2 and 2 gathered; V h (2 + 2 + 4); 8,192 x 2 x (46 h + 14 h + 8 i); 2
    meta-RM     18 P / 15; the same; V h (2 + 2); the same

    A step trains 128 x 5,400 = 691,200 tokens at 10 P on 32 GPUs: 14.7 s, and copies 54.5 GB at 25: 2.2 s. Nine engines share
    358,400 tokens to decode, each 48 sequences at a time: 48 / ((54.5 + 48 x 1,650 x 376,832 / 10^9) / 3,350) = 1,910 a second,
    20.9 s; and 332,800 of prompts at 2 P: 5.0 s.
    """
    plan = plan_of("gemma2-27b")
    engine, _, policy, meta_rm = plan.processes
    agrees(engine, 9, {"weights": 54.454, "KV cache": 18.432, "runtime": 3.614})
    assert plan.room.tokens == 48_912
    working = {"buffers": 3.0, "activations": 3.473 + 5.889, "runtime": 2.0}
    agrees(policy, 32, {"states": 15.315, "reference": 1.702, "head": 9.437, **working})
    agrees(meta_rm, 15, {"states": 32.673, "head": 4.719, **working})
    assert "a step takes about 26 s: generation 26 s; training 15 s + publishing 2 s, meta-RM 25 s beside" in estimate(plan)


def test_several_nodes_with_engines_of_several_gpus() -> None:
    """Llama-3.3-70B: 80 layers, h 8,192, i 28,672, V 128,256; P 70.5537, with a row in place of the head 69.5030.

    engine      2 P / 4 on each of four GPUs; 0.9 x 85 without the rest; 1.5 + 8,192 x 2 x (4 h + 3 i)
    policy      18 P / 64; 2 P / 64; a bucket of 0.5 x 2 and 2 gathered; V h (2 + 2 + 4); 8,192 x 2 x (80 h + 14 h + 8 i); 2
    meta-RM     18 x 69.503 / 48; the same; V h (2 + 2); the same
    """
    plan = plan_of("llama3.3-70b")
    engine, _, policy, meta_rm = plan.processes
    agrees(engine, 4 * 4, {"weights": 35.277, "KV cache": 37.777, "runtime": 3.446})
    working = {"buffers": 3.0, "activations": 10.737 + 5.637, "runtime": 2.0}
    agrees(policy, 64, {"states": 19.843, "reference": 2.205, "head": 8.405, **working})
    agrees(meta_rm, 48, {"states": 26.064, "head": 4.203, **working})
    assert "a step takes about 25 s: generation 15 s; training 19 s + publishing 6 s, meta-RM 20 s beside" in estimate(plan)


ON_CPU = re.findall(r"^\| `(\S+)` \| 2 CPU cores, (\d+) GB \|", Path("README.md").read_text(encoding="utf-8"), re.MULTILINE)
SMOLLM2 = {  # `make smollm2` makes its folder, which is not on every disk
    "model_type": "llama",
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}


def test_the_readme_names_the_memory_of_presets_on_cpu() -> None:
    assert {preset for preset, _ in ON_CPU} == {"tiny", "smollm2-135m", "real-text"}


@pytest.mark.parametrize(("preset", "memory"), ON_CPU)
def test_a_machine_of_the_readme_holds_its_preset(preset: str, memory: str) -> None:
    """Else the run is refused there: its plan counts what processes, Ray's store and a checkpoint take."""
    config = load(preset)
    arch = architecture(resolve("tiny")) if preset == "tiny" else SMOLLM2
    assert arch is not None
    meta_rm = shape_of(arch, scalar_head=True) if config.meta_rm.enabled else None
    assert overfull(config, Shapes(policy=shape_of(arch), meta_rm=meta_rm), machine=float(memory) * GB) is None
