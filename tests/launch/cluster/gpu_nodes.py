"""A driver on a Ray cluster of many nodes that are told they had GPUs: it prints what runs hold, what one waits for, and which
nodes see a folder.

python gpu_nodes.py NODES FOLDER PRESET [OVERRIDE ...]      a run, a second one that must wait, and one when the first is gone
"""

import json
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster as FakeNodes

from configs.load import ConfigError, load
from launch.cluster import shared_folder
from launch.cluster.capacity import gpus_of_nodes
from launch.cluster.ray_cluster import Cluster
from launch.setup.gpu_blocks import held_parts
from launch.setup.resource_plan import gpus_needed, planned

STORE = 80 << 20
AT_ONCE = 4  # nodes that are started together: Ray ends one whose agent is not there within 15 s
NODE = {"num_cpus": 16, "num_gpus": 8, "object_store_memory": STORE}


def run_on(preset: str, overrides: list[str], folder: Path) -> Cluster:
    """The cluster of a run, as far as a driver goes before it makes actors."""
    config = load(preset, overrides)
    planned(config, config.model.path)
    cluster = Cluster(
        config, run_id="r", folder=folder, model="", gpus=gpus_needed(config, "all"), held=held_parts(config, "all")
    )
    cluster._check_room()
    return cluster


def folder_on_nodes(folder: Path) -> dict[str, object]:
    """What is left in a folder that all nodes see, and what is said of one that none sees."""
    shared_folder.require_shared(folder, limit_s=60)
    left = sorted(path.name for path in folder.iterdir())
    shared_folder.echo = lambda file, token, node: False  # type: ignore[assignment]  # as where the folder is not there
    try:
        shared_folder.require_shared(folder, limit_s=60)
    except ConfigError as error:
        return {"left": left, "not shared": str(error)}
    return {"left": left}


def main(nodes: int, folder: Path, preset: str, overrides: list[str]) -> None:
    """Print what is to be seen, as JSON."""
    # nothing computes here, so no process need stand ready for it
    idle = {"enable_worker_prestart": False, "prestart_worker_first_driver": False}
    fake = FakeNodes(True, head_node_args={**NODE, "include_dashboard": False, "_system_config": idle})
    for number in range(1, nodes):
        fake.add_node(wait=False, **NODE)
        if number % AT_ONCE == 0 or number == nodes - 1:
            fake.wait_for_nodes()
    ray.init(address=fake.address, log_to_driver=False)
    seen: dict[str, object] = {"nodes": len(ray.nodes())}
    try:
        seen |= folder_on_nodes(folder)
        run = run_on(preset, overrides, folder)
        seen["held"] = run.drawn_gpus()
        try:
            run_on(preset, [*overrides, "waits.start_s=1.0"], folder)
        except TimeoutError as error:
            seen["second"] = str(error)
        seen["free"] = list(gpus_of_nodes().free)
        run._places.release()
        after = run_on(preset, [*overrides, "waits.start_s=60.0"], folder)
        seen["after"] = after.drawn_gpus()
    finally:
        ray.shutdown()
        fake.shutdown()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
