"""What a run takes of the machine's own memory, worked by hand."""

import pytest

from configs.load import ConfigError, load
from launch.setup import resource_plan
from launch.setup.host_memory import HostMemory, check_host_memory, described_host
from launch.setup.memory_plan import GB
from launch.setup.model_files import TINY
from launch.setup.resource_plan import check_machine, describe, planned
from learner import deepspeed_engine

P, M = 8.19073536e9, 7.568409600e9  # of Qwen3-8B, and of it with a row in place of its head of 151,936 x 4,096


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 24 GB, which joins no cluster."""
    monkeypatch.setattr(resource_plan, "_ram", lambda: 24 * GB)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def host(preset: str, *changes: str) -> HostMemory:
    config = load(preset, changes)
    return planned(config, config.model.path).host


def test_whole_weights_of_8b() -> None:
    """2 bytes of 8.19e9 in the copy that is published from, three times in the store, and once more with the meta-RM's on their
    way to disk. States of both learners at ZeRO 3: 16 bytes of each number, whatever the ranks."""
    found = host("qwen3-8b")
    assert P - M == 151_936 * 4_096 - 4_096
    assert (found.published, found.store) == (2 * P, 6 * P)
    assert found.saved == 2 * P + 2 * M
    assert found.states == 16 * P + 16 * M
    assert (found.pulled, found.optimisers) == (0, 0)
    assert found.needed == 10 * P + 2 * M


def test_of_adapters_little_is_published_but_the_meta_rm_is_saved_whole() -> None:
    """Qwen3-0.6B, r = 32: 28 layers with 22,528 rows and columns each, 20.2 million numbers of 2 bytes."""
    found = host("qwen3-0.6b-1gpu")
    adapters = 32 * 28 * ((1024 + 2048) + 2 * (1024 + 1024) + (2048 + 1024) + 3 * (1024 + 3072))
    assert (found.published, found.store) == (2 * adapters, 6 * adapters)
    meta_rm = 596_049_920 + 1024  # the policy's head is its embedding, so the row comes on top
    assert found.saved == 2 * adapters + 2 * meta_rm
    assert found.states == 20 * adapters + 20 * adapters


def test_an_offloaded_optimiser_and_pulls_of_engines_of_several_processes_are_counted() -> None:
    offloaded = host("qwen3-1.7b-1gpu", "learner.optimizer_offload=true")
    count = 1_720_574_976
    assert offloaded.optimisers == 12 * count
    assert offloaded.needed == (2 + 6 + 2 + 12) * count
    cut = host("qwen3-8b", "rollout.tensor_parallel=2", "rollout.workers=3")
    assert cut.pulled == 3 * 2 * P


def test_without_zero_each_rank_has_all_states() -> None:
    config = load("tiny", ["learner.zero_stage=0", "learner.ranks=2", "meta_rm.enabled=false"])
    found = planned(config, str(TINY)).host
    assert found.states == (4 + 2 * 16) * found.published / 4


def test_a_plan_says_it_and_a_run_on_a_machine_that_lacks_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load("qwen3-8b")
    plan = planned(config, config.model.path)
    assert (
        "\nhost       97.0 GB of the machine's memory beside the processes (object store 49.1, published copy 16.4,"
        " checkpoints' models 31.5), up to 252.1 more while checkpoints are written, where twice as much is free\n"
        in describe(plan)
    )
    with pytest.raises(
        ConfigError, match=r"this machine has 24\.0 GB of memory, and the run takes 97\.0 beside .*store 49\.1, .*lora_rank"
    ):
        check_machine(plan)
    monkeypatch.setattr(resource_plan, "_ram", lambda: 98 * GB)
    check_machine(plan)
    check_host_memory(load("qwen3-8b", ["cluster.address=head:6379"]), plan.host, 24 * GB)  # whose nodes nobody knows
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_host_memory(config, plan.host, 24 * GB)


def test_on_a_cpu_it_is_in_the_memory_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same float32 weights once in the copy, three times in the store, once on their way to disk."""
    config = load("tiny", ["meta_rm.enabled=false", "learner.micro_tokens=512"])
    plan = planned(config, str(TINY))
    ways, processes = 5 * 4 * plan.shapes.policy.parameters, sum(p.size * p.count for p in plan.processes)
    assert plan.host.needed == ways
    assert described_host(config, plan.host) == "next to nothing of the machine's memory beside the processes"
    exactly = (processes + ways) / 0.95
    monkeypatch.setattr(resource_plan, "_ram", lambda: exactly + 1)
    planned(config, str(TINY))
    monkeypatch.setattr(resource_plan, "_ram", lambda: exactly - 1)
    with pytest.raises(ConfigError) as refused:
        planned(config, str(TINY))
    assert "; weights on their way 0.0)" in str(refused.value)


def test_sizes_of_the_learner_are_still_its_own() -> None:
    from launch.setup import host_memory

    assert host_memory.STATE == deepspeed_engine.STATE_BYTES
