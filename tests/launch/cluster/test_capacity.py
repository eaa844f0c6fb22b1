"""What the cluster cannot place: counted, refused with the resource that is missing, or described."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import ConfigError, load
from launch.cluster import actor_places, capacity, ray_session
from launch.cluster.capacity import NodeGpus, places, require_resource, shortage
from launch.cluster.ray_cluster import Cluster

WORKER = {"CPU": 1, "GPU": 1, "rollout": 1}
NODES = {"CPU": 64.0, "GPU": 8.0, "rollout": 4.0, "memory": 1e11, "node:10.0.0.7": 1.0, "accelerator_type:H100": 1.0}


def test_places_are_what_the_scarcest_resource_leaves() -> None:
    assert places(WORKER, [], NODES) == 4
    assert places(WORKER, [{"CPU": 1, "GPU": 1}] * 6, NODES) == 2
    assert places(WORKER, [WORKER] * 5, NODES) == 0
    assert places({"CPU": 0.1, "GPU": 0}, [{"CPU": 0.1}] * 12, {"CPU": 2.0}) == 8
    assert places(WORKER, [], {"CPU": 64.0, "GPU": 8.0}) == 0


def test_what_is_short_is_named_with_what_is_asked_for_and_what_there_is() -> None:
    assert shortage(WORKER, NODES, {"CPU": 60, "GPU": 2}) == (
        "each asks for 1 CPU, 1 GPU, 1 rollout; the cluster has 4 rollout, 0 of them free"
    )
    everything_free = shortage({"CPU": 1, "GPU": 1}, NODES, NODES)
    assert everything_free.endswith("the cluster has 64 CPU, 64 of them free, 8 GPU, 8 of them free"), "on no node together"


def test_a_resource_that_no_node_has_is_refused_with_those_that_there_are() -> None:
    require_resource("rollout", 4, NODES)
    with pytest.raises(
        ConfigError, match=r"rollout.resource = 'fast': no node of the cluster has it \(resources there: rollout\)"
    ):
        require_resource("fast", 1, NODES)
    with pytest.raises(ConfigError, match=r"5 rollout workers ask for one each, the cluster has 4: lower rollout.workers"):
        require_resource("rollout", 5, NODES)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """What a cluster of the test has; it has no autoscaler."""
    there = dict(NODES)
    fake: Any = SimpleNamespace(cluster_resources=lambda: there, available_resources=lambda: there)
    none = SimpleNamespace(get_max_resources_from_cluster_config=lambda: None)
    monkeypatch.setattr(capacity, "ray", fake)
    monkeypatch.setattr(capacity, "state", none)
    monkeypatch.setattr(ray_session, "ray", SimpleNamespace(cluster_resources=lambda: there, nodes=list))
    monkeypatch.setattr(ray_session, "state", none)
    return there


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["rollout.resource=fast"], "no node of the cluster has it"),
        (["rollout.resource=rollout", "rollout.workers=5"], "5 rollout workers ask for one each, the cluster has 4"),
        (["rollout.workers=7"], "9 GPUs are needed at a time, the cluster has 8 at most"),
    ],
)
def test_what_can_never_be_placed_is_refused_before_an_actor_is_made(
    changed: list[str], message: str, nodes: dict[str, float], tmp_path: Path
) -> None:
    config = load("qwen3-8b", ["learner.ranks=1", "meta_rm.ranks=1", "rollout.workers=4", *changed])
    gpus = config.rollout.workers + 2
    with pytest.raises(ConfigError, match=re.escape(message)):
        Cluster(config, run_id="r", folder=tmp_path, model="", gpus=gpus)._check_room()


def test_an_evaluation_of_an_endpoint_needs_no_resource_of_rollout_workers(nodes: dict[str, float], tmp_path: Path) -> None:
    config = load("qwen3-8b", ["rollout.resource=fast"])
    Cluster(config, run_id="r", folder=tmp_path, model="", gpus=1, rollouts=False)._check_room()


def test_a_run_that_goes_on_needs_room_for_its_learners_and_one_worker(nodes: dict[str, float], tmp_path: Path) -> None:
    nodes["GPU"], nodes["rollout"] = 3.0, 1.0
    config = load("qwen3-8b", ["learner.ranks=1", "meta_rm.ranks=1", "rollout.workers=4", "rollout.resource=rollout"])
    Cluster(config, run_id="r", folder=tmp_path, model="", gpus=6, continued=True)._check_room()
    nodes["GPU"] = 2.0
    with pytest.raises(ConfigError, match="3 GPUs are needed at a time, the cluster has 2"):
        Cluster(config, run_id="r", folder=tmp_path, model="", gpus=6, continued=True)._check_room()


def test_a_worker_that_may_be_missing_has_several_gpus_where_its_model_is_cut(nodes: dict[str, float], tmp_path: Path) -> None:
    nodes["GPU"] = 4.0
    config = load("qwen3-8b", ["learner.ranks=1", "meta_rm.ranks=1", "rollout.workers=3", "rollout.tensor_parallel=2"])
    Cluster(config, run_id="r", folder=tmp_path, model="", gpus=8, continued=True)._check_room()
    nodes["GPU"] = 3.0
    with pytest.raises(ConfigError, match="4 GPUs are needed at a time, the cluster has 3"):
        Cluster(config, run_id="r", folder=tmp_path, model="", gpus=8, continued=True)._check_room()


def test_an_actor_of_several_gpus_has_them_on_one_node(
    nodes: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Eight GPUs on nodes of 3, 3 and 2: three actors of two, not four; one of those is there already."""
    three = NodeGpus(free=[3, 3, 2], all=[3, 3, 2], possible=[3, 3, 2])
    monkeypatch.setattr(actor_places, "gpus_of_nodes", lambda: three)
    cluster = Cluster(load("qwen3-8b"), run_id="r", folder=tmp_path, model="", gpus=0)
    assert cluster.places(gpus=2, resource="") == 3
    cluster._places._demands = {"an engine": {"CPU": 2, "GPU": 2}, "a rank": {"CPU": 1, "GPU": 1}}
    assert cluster.places(gpus=2, resource="") == 2


def test_an_actor_has_room_beside_those_that_there_are(nodes: dict[str, float], tmp_path: Path) -> None:
    cluster = Cluster(load("qwen3-8b"), run_id="r", folder=tmp_path, model="", gpus=0)
    cluster._places._demands = {str(i): {"CPU": 1, "GPU": 1} for i in range(6)}
    assert cluster.places(gpus=1, resource="rollout") == 2
    assert cluster.shortage(gpus=1, resource="fast").endswith("the cluster has 0 fast, 0 of them free")
