"""The plan of a run: what is planned together, what is refused with which remedy, and what is said."""

import re
from pathlib import Path

import pytest

from configs.load import PRESETS, ConfigError, load
from launch.setup import resource_plan
from launch.setup.memory_plan import GB
from launch.setup.model_files import TINY
from launch.setup.resource_plan import Plan, describe, gpus_needed, planned
from tests.random_models import make

GPU_PRESETS = ("gemma2-27b", "llama3.3-70b", "qwen3-0.6b-1gpu", "qwen3-1.7b-1gpu", "qwen3-8b")


def plan_of(preset: str, *changes: str) -> Plan:
    config = load(preset, changes)
    return planned(config, config.model.path)


def refusal(preset: str, *changes: str) -> str:
    with pytest.raises(ConfigError) as refused:
        plan_of(preset, *changes)
    return str(refused.value)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 24 GB, whatever runs the test."""
    monkeypatch.setattr(resource_plan, "_ram", lambda: 24 * GB)


@pytest.mark.parametrize("preset", GPU_PRESETS)
def test_the_gpu_presets_fit_without_a_network_and_claim_what_they_can_decode(preset: str) -> None:
    plan = plan_of(preset)
    assert plan.notes() == []
    assert re.search(r"^estimate   a step takes about \d+ s: .* is the slower side$", describe(plan), flags=re.MULTILINE)


@pytest.mark.parametrize(("preset", "gpus"), [("qwen3-8b", 8), ("gemma2-27b", 56), ("qwen3-0.6b-1gpu", 1), ("tiny", 0)])
def test_gpus_are_counted_one_a_process_unless_they_share_one(preset: str, gpus: int) -> None:
    assert gpus_needed(load(preset), "all") == gpus


def test_a_cold_start_alone_needs_the_gpus_of_its_larger_part() -> None:
    """Its engines have ended when it fine-tunes, and it trains no meta-RM."""
    assert gpus_needed(load("qwen3-8b"), "cold_start") == 4
    assert gpus_needed(load("qwen3-8b", ["rollout.workers=6"]), "cold_start") == 6
    assert gpus_needed(load("qwen3-8b", ["rollout.workers=2", "rollout.resource=sampling"]), "cold_start") == 4 + 2
    assert gpus_needed(load("qwen3-8b", ["meta_rm.enabled=false"]), "all") == 5


@pytest.mark.parametrize("preset", ["qwen3-0.6b-1gpu", "qwen3-1.7b-1gpu"])
def test_the_variant_that_a_preset_names_fits_its_card(preset: str) -> None:
    head = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8").partition("model:")[0]
    changes = re.findall(r"[a-z_]+\.[a-z_]+=[\w.-]*\w", head)
    assert any(change.startswith("learner.lora_rank=") for change in changes)
    plan = plan_of(preset, *changes)
    assert plan.notes() == []
    assert sum(p.size for p in plan.processes if p.on_device) < 0.95 * 24 * GB


def test_what_shares_a_gpu_is_planned_together() -> None:
    """0.6 billion on 24 GB: 18 P + 2 P of the reference, the backward pass, an engine with a cache of 1.5 GiB."""
    full = ("learner.lora_rank=0", "meta_rm.enabled=false", "rollout.kv_cache_mb=1536", "rollout.max_groups=3")
    plan = plan_of("qwen3-0.6b-1gpu", *full)
    rollout, _, learner = plan.processes
    count = 596_049_920
    assert learner.parts["states"] + learner.parts["reference"] == 20 * count
    assert rollout.parts["weights"] == 2 * count
    assert rollout.parts["KV cache"] == 1536 << 20
    assert rollout.size + learner.size < 0.95 * 24 * GB
    assert f"{(rollout.size + learner.size) / GB:.1f} GB planned in all" in describe(plan)
    assert "device     one GPU of 24 GB for all processes" in describe(plan)


def test_each_process_has_what_it_leaves_of_its_gpu() -> None:
    plan = plan_of("qwen3-8b")
    learner = next(p for p in plan.processes if p.name.startswith("GRPO"))
    assert f"4 x GRPO learner (DeepSpeed ZeRO 3): {learner.size / GB:.1f} GB each" in describe(plan)
    assert f"{(85 * GB - learner.size) / GB:.1f} left" in describe(plan)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (
            ("learner.ranks=1", "learner.zero_stage=1"),
            r"GRPO learner \(DeepSpeed ZeRO 1\), each rank: .*; learner\.ranks=3 learner\.zero_stage=3 together make it fit",
        ),
        (("learner.micro_tokens=131072",), r"GRPO learner.*activations.*; learner\.micro_tokens=8192 .*makes it fit"),
        (("learner.gradient_checkpointing=false",), r"learner\.gradient_checkpointing=true"),
        (("meta_rm.ranks=1",), r"meta-RM learner.*; meta_rm\.ranks=3 makes it fit"),
        (
            ("rollout.gpu_memory=0.2",),
            r"rollout actor \(vLLM\): .*KV cache of one sequence.*; rollout\.gpu_memory=0\.95 makes it fit",
        ),
        (("cluster.gpu_memory_gb=16.0",), r"no setting makes it fit; use a smaller model or GPUs with more memory"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_makes_it_fit(changes: tuple[str, ...], remedy: str) -> None:
    assert re.search(remedy, refusal("qwen3-8b", *changes))


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("qwen3-8b", ("learner.ranks=1", "learner.zero_stage=1")),
        ("qwen3-8b", ("learner.micro_tokens=131072",)),
        ("qwen3-1.7b-1gpu", ("meta_rm.enabled=true",)),
        ("qwen3-0.6b-1gpu", ("rollout.kv_cache_mb=16384", "learner.micro_tokens=131072")),
        ("qwen3-1.7b-1gpu", ("cluster.gpu_memory_gb=24.0",)),
        ("qwen3-8b", ("meta_rm.ranks=1", "learner.ranks=2")),
        ("gemma2-27b", ("meta_rm.ranks=4",)),
    ],
)
def test_the_remedy_is_tried_before_it_is_given(preset: str, changes: tuple[str, ...]) -> None:
    """Whatever is named is given to the plan as it stands, and passes."""
    named = re.search(r"; ((?:[a-z_]+\.[a-z_]+=\S+ )+)(?:makes it fit|together make it fit)$", refusal(preset, *changes))
    assert named
    plan_of(preset, *changes, *named[1].split())


def test_on_one_gpu_adapters_come_before_a_run_without_a_meta_rm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_plan, "_ram", lambda: 24 * GB)  # no room for two optimisers
    assert refusal("qwen3-1.7b-1gpu", "meta_rm.enabled=true").endswith("; learner.lora_rank=32 makes it fit")
    adapters = ("meta_rm.enabled=true", "learner.lora_rank=32", "cluster.gpu_memory_gb=22.0", "rollout.kv_cache_mb=2048")
    assert refusal("qwen3-1.7b-1gpu", *adapters).endswith("; meta_rm.enabled=false makes it fit")


def test_before_adapters_come_optimisers_in_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 bytes of each of 1.7 billion parameters, twice: 41 GB."""
    monkeypatch.setattr(resource_plan, "_ram", lambda: 64 * GB)
    offloaded = "learner.optimizer_offload=true"
    assert refusal("qwen3-1.7b-1gpu", "meta_rm.enabled=true").endswith(f"; {offloaded} makes it fit")
    plan = plan_of("qwen3-1.7b-1gpu", "meta_rm.enabled=true", offloaded)
    assert plan.host.optimisers == 12 * sum(shape.parameters for shape in (plan.shapes.policy, plan.shapes.meta_rm) if shape)
    assert f"optimisers {plan.host.optimisers / GB:.1f})" in describe(plan)
    monkeypatch.setattr(resource_plan, "_ram", lambda: 40 * GB)
    assert re.search(
        r"the optimisers in this machine's memory: 41\.\d GB are planned, and 38\.0 may be \(learner\.optimizer_offload\)",
        refusal("qwen3-1.7b-1gpu", "meta_rm.enabled=true", offloaded),
    )
    elsewhere = "cluster.address=head:6379"  # whose nodes nobody knows
    plan_of("qwen3-1.7b-1gpu", "meta_rm.enabled=true", offloaded, elsewhere)


def test_70b_on_sixteen_nodes_of_eight() -> None:
    """An engine of four GPUs: 141 GB of weights make 35 on each, 85 x 0.9 - 35.3 - 3.4 = 37.8 are left, 151 GB of all four."""
    plan = plan_of("llama3.3-70b")
    assert gpus_needed(plan.config, "all") == 64 + 48 + 4 * 4 == 16 * 8
    engines = plan.processes[0]
    assert (engines.count, engines.name) == (16, "process of a rollout actor (vLLM, 4 each)")
    assert engines.parts["weights"] == 2 * plan.shapes.policy.parameters / 4
    assert engines.parts["KV cache"] / GB == pytest.approx(37.8, abs=0.1)
    assert plan.room.tokens == pytest.approx(4 * engines.parts["KV cache"] / 327_680, abs=1)
    text = describe(plan)
    assert "device     128 GPUs of 85 GB" in text
    drawing = [line for line in text.splitlines() if line.startswith("nodes ")]
    assert drawing == [
        "nodes      of 8 GPUs: 1, 2, 3, 4, 5, 6, 7, 8: policy 8",
        "nodes      of 8 GPUs: 9, 10, 11, 12, 13, 14: meta-RM 8",
        "nodes      of 8 GPUs: 15, 16: engine 8",
    ]


def test_an_engine_that_is_too_large_for_a_gpu_is_cut_over_several() -> None:
    """141 GB of weights: 71 on each of two, beside which the cache of a sequence fits."""
    one = refusal("llama3.3-70b", "rollout.tensor_parallel=1")
    assert re.search(r"rollout actor \(vLLM\): 147\.\d GB.*; rollout\.tensor_parallel=\d makes it fit$", one)
    plan_of("llama3.3-70b", one.rpartition("; ")[2].removesuffix(" makes it fit"))
    assert "tensor_parallel" not in refusal("qwen3-1.7b-1gpu", "cluster.gpu_memory_gb=24.0"), "one card has no second"


def test_an_odd_cut_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"tensor_parallel = 3 does not divide .*heads = 64: this model can be cut over 1, 2, 4, 8"
    ):
        plan_of("llama3.3-70b", "rollout.tensor_parallel=3")


def test_on_cpu_all_share_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(load("tiny"), str(TINY))
    assert sum(p.size * p.count for p in plan.processes) < 4 * GB
    assert "estimate" not in describe(plan)
    monkeypatch.setattr(resource_plan, "_ram", lambda: 2 * GB)
    with pytest.raises(
        ConfigError, match=r"^all processes on this machine: 3\.\d GB are planned, and 1\.9 may be \(1 x rollout actor"
    ):
        planned(load("tiny"), str(TINY))


def test_more_groups_than_the_cache_holds_are_noted() -> None:
    (note,) = plan_of("gemma2-27b", "rollout.max_groups=64").notes()
    assert note.startswith(
        "rollout.max_groups = 64 groups of 4 completions are more than the KV cache of an engine holds, about 12 at 1,300"
    )


def test_a_guessed_shape_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    from launch.setup import model_shape

    monkeypatch.setattr(model_shape, "hub_config", lambda name: (None, "offline"))
    plan = plan_of("qwen3-8b", "model.path=owner/unknown", "model.billions=7.0")
    (note,) = plan.notes()
    assert note.startswith("the model's config.json is not here: planned with the shape of Qwen/Qwen3-8B, scaled to 7e9")
    assert note in describe(plan)


def test_a_context_over_the_models_own_is_refused_for_a_hub_name() -> None:
    assert "over the model's own limit of 40960 tokens" in refusal(
        "qwen3-8b", "model.context=40961", "learner.micro_tokens=40961", "meta_rm.micro_tokens=40961"
    )


def test_a_kind_that_makes_no_meta_rm_is_refused_where_there_is_to_be_one(tmp_path: Path) -> None:
    folder = make(tmp_path, "glm4_moe")
    planned(load("tiny", ["meta_rm.enabled=false"]), str(folder))
    with pytest.raises(
        ConfigError, match=r"model_type 'glm4_moe'\) makes no model with a scalar head, .*meta_rm\.enabled=false"
    ):
        planned(load("tiny", ["meta_rm.enabled=true"]), str(folder))
