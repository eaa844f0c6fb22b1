"""All actors of a run on one GPU, on a real Ray that is told it had two cards: there is no card here, and nothing computes."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cloudpickle import register_pickle_by_value, unregister_pickle_by_value

from configs.load import ConfigError, load
from launch.cluster.own_place import own_gpu, own_gpu_of
from launch.cluster.ray_cluster import Cluster
from launch.cluster.ray_session import ROOT
from launch.cluster.reserved_gpus import ReservedGpus, one_shared_gpu
from launch.scale import require_in_bounds

ONE_GPU = ("cluster.device=cuda", "cluster.share_gpu=true", "waits.start_s=60.0")


@pytest.mark.parametrize(
    ("assigned", "visible", "index"),
    [
        ([3], "3", 0),  # Ray has set it
        ([3], "1,3", 1),  # RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES, on a node that shows two of its cards
        ([3], None, 3),  # the same where all are shown: two learners of one node would else meet on card 0
        (["GPU-b"], "GPU-a, GPU-b", 1),
        ([], None, 0),  # on CPU
        ([], "", 0),
    ],
)
def test_a_rank_computes_on_the_gpu_that_ray_gave_it(assigned: list[Any], visible: str | None, index: int) -> None:
    assert own_gpu(assigned, visible) == index


def test_a_gpu_that_the_process_does_not_see_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"Ray gave this process GPU 2, and it sees '0,1' only"):
        own_gpu([2], "0,1")


def test_shares_are_what_ray_can_count() -> None:
    for actors in (1, 2, 3):
        share = one_shared_gpu(actors=actors, cpus=0.1, resource="")[1]["GPU"]
        assert actors * round(share * 10_000) <= 10_000
        assert share == pytest.approx(1 / actors, abs=1e-4)


def test_one_gpu_has_room_for_one_worker() -> None:
    config = load("qwen3-1.7b-1gpu")
    require_in_bounds(1, config)
    with pytest.raises(ConfigError, match=r"--rollouts 2: the run shares one GPU"):
        require_in_bounds(2, config)


class Part:
    """An actor on a GPU."""

    def cards(self) -> tuple[list[Any], str]:
        return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def two_cards() -> Iterator[None]:
    register_pickle_by_value(sys.modules[__name__])  # no worker could import this file
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder,  # short: Ray's socket names have at most 107 bytes
    ):
        patch.setenv("PYTHONPATH", str(ROOT))
        size = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 100_000_000}
        ray.init(address="local", include_dashboard=False, log_to_driver=False, _temp_dir=folder, **size)
        yield
        ray.shutdown()
    unregister_pickle_by_value(sys.modules[__name__])


def cluster(folder: Path, *changes: str) -> Cluster:
    """A run's cluster, on the Ray that there is."""
    made = Cluster(load("tiny", [*ONE_GPU, *changes]), run_id="r", folder=folder, model="", gpus=1)
    made._check_room()
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("two_cards")
def test_all_parts_of_two_runs_land_on_one_card_each(tmp_path: Path) -> None:
    """Three parts a run; fractions alone would let Ray put the third of one run on the other's card."""
    runs = [cluster(tmp_path), cluster(tmp_path)]
    cards = []
    for run in runs:
        parts = [run.remote(Part, gpus=1) for _ in range(3)]
        found = {tuple(ids) for ids, _ in ray.get([part.cards.remote() for part in parts], timeout=120)}
        assert len(found) == 1, "all parts of a run on the same card"
        assert {visible for _, visible in ray.get([part.cards.remote() for part in parts])} == {str(next(iter(found))[0])}
        assert ray.get([part.__ray_call__.remote(own_gpu_of) for part in parts]) == [0, 0, 0]
        assert run.places(gpus=1, resource="") == 0
        run.end(parts[:1])
        assert run.places(gpus=1, resource="") == 1
        again = run.remote(Part, gpus=1)  # what was lost comes back to the same card
        assert tuple(ray.get(again.cards.remote(), timeout=120)[0]) in found
        assert run.places(gpus=0, resource="") > 1
        cards.append(found)
    assert cards[0] != cards[1], "and none of the other's"
    with pytest.raises(
        TimeoutError,
        match=r"the driver waited 1 s for GPUs \(waits\.start_s\): 1 GPU, 0\.3 CPU of one node; .* 0 of 2 GPU on 1 node are",
    ):
        cluster(tmp_path, "waits.start_s=1.0")
    for run in runs:
        run.end(list(run._actors))
        run._places.release()
    after = cluster(tmp_path, "meta_rm.enabled=false")
    assert after._places.demand(1, "")["GPU"] == 0.5
    after._places.release()


@pytest.mark.slow
@pytest.mark.usefixtures("two_cards")
def test_a_worker_that_takes_a_resource_takes_it_from_the_same_node(tmp_path: Path) -> None:
    """No node has it: the group is not placed, and the error says what was asked for."""
    bundle, _ = one_shared_gpu(actors=2, cpus=0.1, resource="fast")
    shared = ReservedGpus([bundle], is_shared=True)
    with pytest.raises(TimeoutError, match=r"1 GPU, 0\.2 CPU, 1 fast of one node"):
        shared.reserve(limit_s=1)
    shared.release()
