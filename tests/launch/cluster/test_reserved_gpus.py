"""What a run holds of a cluster: bundles by node, and actors in them. On the nodes of a real Ray: test_gpu_nodes.py."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import ConfigError, load
from launch.cluster import ray_cluster, reserved_gpus
from launch.cluster.capacity import NodeGpus
from launch.cluster.ray_cluster import Cluster
from launch.cluster.reserved_gpus import Bundle, ReservedGpus, bundles_of
from launch.setup.gpu_blocks import ENGINE, META_RM, POLICY, Part, held_parts

PARTS = [Part(name=POLICY, count=10), Part(name=META_RM, count=3), Part(name=ENGINE, count=1)]
RANK = {"GPU": 1, "CPU": 1}


def cut(monkeypatch: pytest.MonkeyPatch, parts: Sequence[Part], **nodes: list[int]) -> list[tuple[str, float]]:
    there = {"free": [], "all": [], **nodes}
    monkeypatch.setattr(
        reserved_gpus,
        "gpus_of_nodes",
        lambda: NodeGpus(possible=nodes.get("possible", there["all"]), **{name: there[name] for name in ("free", "all")}),
    )
    return [(bundle.part, bundle.demand["GPU"]) for bundle in bundles_of(parts, cpus=1, resource="")]


def test_bundles_are_cut_to_what_is_free_else_to_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [(POLICY, 8), (POLICY, 2), (META_RM, 3), (ENGINE, 1)]
    assert cut(monkeypatch, PARTS, free=[8, 8], all=[8, 8]) == whole
    assert cut(monkeypatch, PARTS, free=[5, 5, 4], all=[8, 8, 8]) == [(POLICY, 5), (POLICY, 5), (META_RM, 3), (ENGINE, 1)]
    assert cut(monkeypatch, PARTS, free=[1, 1], all=[8, 8]) == whole, "it waits for whole nodes"
    assert cut(monkeypatch, PARTS, possible=[8, 8, 8]) == whole, "which an autoscaler may add"


def test_the_70b_preset_holds_fifteen_of_sixteen_nodes_but_for_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine has four GPUs of one node; the second has its others, and two more have the last node."""
    held = held_parts(load("llama3.3-70b"), "all")
    bundles = [(POLICY, 8)] * 8 + [(META_RM, 8)] * 6 + [(ENGINE, 4)]
    assert cut(monkeypatch, held, free=[8] * 16, all=[8] * 16) == bundles
    assert cut(monkeypatch, held, free=[0] + [8] * 15, all=[8] * 16) == bundles


def test_a_process_that_no_node_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"nodes have no room for engine 1 x 8 GPU; GPUs of each node: 4, 4"
    with pytest.raises(ConfigError, match=message):
        cut(monkeypatch, [Part(name=ENGINE, count=1, gpus=8)], free=[4, 4], all=[4, 4])


def test_ranks_fill_their_bundles_in_turn_and_find_them_again() -> None:
    held = ReservedGpus(
        [
            Bundle(part=POLICY, demand={"GPU": 2.0, "CPU": 2.0}),
            Bundle(part=POLICY, demand={"GPU": 1.0, "CPU": 1.0}),
            Bundle(part=ENGINE, demand={"GPU": 1.0, "CPU": 1.0, "fast": 1.0}),
        ]
    )

    def placed(name: str, part: str, demand: dict[str, Any] = RANK) -> int | None:
        bundle = held.room(demand, part)
        if bundle is not None:
            held.take(name, bundle, demand)
        return bundle

    assert [placed(f"rank {rank}", POLICY) for rank in range(4)] == [0, 0, 1, None]
    held.give_back("rank 1")
    held.give_back("rank 1")  # harmless
    assert held.room(RANK, ENGINE) == 2, "an engine takes nothing of a learner that is being replaced"
    assert held.room(RANK, "") == 0, "but in a stage without learners it may"
    assert placed("rank 1 again", POLICY) == 0
    assert placed("an engine", ENGINE, RANK | {"fast": 1}) == 2
    assert placed("another", ENGINE, RANK | {"fast": 1}) is None


def test_a_shared_gpu_has_nobody_placed_elsewhere() -> None:
    held = ReservedGpus([Bundle(part="", demand={"GPU": 1.0, "CPU": 0.2})], is_shared=True)
    for name in "abc":
        bundle = held.room({"GPU": 0.5, "CPU": 0.1}, POLICY)
        assert bundle == 0
        held.take(name, bundle, {"GPU": 0.5, "CPU": 0.1})


class Made:
    """In place of an actor, and of a placement group: what it was asked for."""

    def __init__(self, options: dict[str, Any], number: int) -> None:
        self.options, self._actor_id = options, SimpleNamespace(hex=lambda: f"actor {number}")


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """Ray is not started: actors and placement groups are written down."""
    made: list[Made] = []

    def remote(**options: Any) -> Any:
        def actor(**_: Any) -> Made:
            made.append(Made(options, len(made)))
            return made[-1]

        return lambda cls: SimpleNamespace(remote=actor)

    group = SimpleNamespace(wait=lambda timeout_seconds: True)
    monkeypatch.setattr(ray_cluster, "ray", SimpleNamespace(remote=remote, kill=lambda actor: None))
    monkeypatch.setattr(reserved_gpus, "placement_group", lambda bundles, strategy: group)
    monkeypatch.setattr(
        reserved_gpus,
        "PlacementGroupSchedulingStrategy",
        lambda group, *, placement_group_bundle_index: placement_group_bundle_index,
    )
    monkeypatch.setattr(reserved_gpus, "gpus_of_nodes", lambda: NodeGpus(free=[4, 4], all=[4, 4], possible=[4, 4]))
    return made


def test_actors_are_made_in_the_bundles_of_their_part(no_ray: list[Made], tmp_path: Path) -> None:
    """Six ranks on nodes of four, and an engine; then a rank dies, and an engine comes before it is made again."""
    config = load("qwen3-8b", ["learner.ranks=6", "meta_rm.enabled=false", "rollout.workers=2"])
    cluster = Cluster(config, run_id="r", folder=tmp_path, model="", gpus=8, held=held_parts(config, "all"))
    cluster._places.reserve()
    ranks = [cluster.remote(object, gpus=1, part=POLICY) for _ in range(6)]
    assert [made.options.get("scheduling_strategy") for made in no_ray] == [0] * 4 + [1] * 2
    cluster.remote(object, gpus=1, part=ENGINE)
    cluster.end(ranks[3:4])
    cluster.remote(object, gpus=1, part=ENGINE)  # one bundle for an engine is held; this one goes where Ray finds room
    cluster.remote(object, gpus=1, part=POLICY)
    assert [made.options.get("scheduling_strategy") for made in no_ray[6:]] == [2, None, 0]
    cluster.remote(object)
    assert (no_ray[-1].options["num_gpus"], no_ray[-1].options.get("scheduling_strategy")) == (0, None)
    cluster.remote(object, gpus=2)
    assert (no_ray[-1].options["num_gpus"], no_ray[-1].options["num_cpus"]) == (2, 2)


def test_a_wait_for_gpus_says_what_for_and_how_it_is_mended(no_ray: list[Made], monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Any] = []
    never = SimpleNamespace(wait=lambda timeout_seconds: False)
    monkeypatch.setattr(reserved_gpus, "placement_group", lambda bundles, strategy: never)
    monkeypatch.setattr(reserved_gpus, "remove_placement_group", removed.append)
    held = ReservedGpus(bundles_of([Part(name=POLICY, count=6), Part(name=ENGINE, count=1)], cpus=1, resource="fast"))
    with pytest.raises(TimeoutError) as raised:
        held.reserve(limit_s=600)
    assert str(raised.value) == (
        "the driver waited 600 s for GPUs (waits.start_s): 4 GPU, 4 CPU of one node for the policy; 2 GPU, 2 CPU of one node"
        " for the policy; 1 GPU, 1 CPU, 1 fast of one node for the engine; they were never free all at a time, and now 4 of 4"
        " GPU on 2 nodes are; end what uses them, add nodes, or lower learner.ranks or meta_rm.ranks"
    )
    assert removed == [never], "who waits holds nothing"
