"""What actors ask for and what the cluster has: how many find a place, and what is missing, in words."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._private.state import state

from configs.load import ConfigError

Demand = Mapping[str, float]
"""Amounts by resource, as Ray counts them: CPU, GPU, and the resources that its nodes were started with."""

# What Ray counts beside the resources that somebody asks for.
_INTERNAL = ("node:", "memory", "object_store_memory", "accelerator_type:")


MOST_ADDED = 256  # nodes of one kind that an autoscaler is taken to add where it names no limit


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeGpus:
    """GPUs node by node, of the nodes that have any."""

    free: Sequence[int]
    """Those that nobody has taken, of the nodes that there are."""
    all: Sequence[int]
    """Those of the same nodes, in the same order."""
    possible: Sequence[int]
    """The same, and then those of the nodes that the cluster's autoscaler may add."""


def gpus_of_nodes() -> NodeGpus:
    """Returns what each node of the cluster has."""
    total, free = state.total_resources_per_node(), state.available_resources_per_node()
    there = {node: int(resources["GPU"]) for node, resources in total.items() if resources.get("GPU", 0) >= 1}
    return NodeGpus(
        free=[int(free.get(node, {}).get("GPU", 0)) for node in there],
        all=list(there.values()),
        possible=[*there.values(), *_addable()],
    )


def _addable() -> list[int]:
    """GPUs of each node that an autoscaler may have; those that it has started are among them."""
    scaling = state.get_cluster_config()
    groups = [] if scaling is None else scaling.node_group_configs
    counted = ((int(group.resources.get("GPU", 0)), group.max_count) for group in groups)
    return [gpus for gpus, most in counted if gpus > 0 for _ in range(most if 0 <= most < MOST_ADDED else MOST_ADDED)]


def capacity() -> dict[str, float]:
    """Returns what all nodes have together, those that the cluster's autoscaler may add among them."""
    there, most = ray.cluster_resources(), state.get_max_resources_from_cluster_config() or {}
    return {name: max(there.get(name, 0), most.get(name, 0)) for name in {*there, *most}}


def places(demand: Demand, taken: Iterable[Demand], there: Mapping[str, float]) -> int:
    """Returns how many actors of this demand have room beside those that take the others.

    >>> places({"CPU": 1, "GPU": 1}, [{"CPU": 1, "GPU": 1}] * 2, {"CPU": 64, "GPU": 8})
    6
    """
    used = [dict(other) for other in taken]
    left = {name: there.get(name, 0) - sum(other.get(name, 0) for other in used) for name in demand}
    return max(0, min(math.floor(left[name] / amount + 1e-6) for name, amount in demand.items() if amount))


def shortage(demand: Demand, there: Mapping[str, float], free: Mapping[str, float]) -> str:
    """Returns what an actor of this demand waits for, in words.

    >>> shortage({"CPU": 1, "GPU": 1}, {"CPU": 64, "GPU": 4}, {"CPU": 60})
    'each asks for 1 CPU, 1 GPU; the cluster has 4 GPU, 0 of them free'
    """
    asked = {name: amount for name, amount in demand.items() if amount}
    missing = [name for name, amount in asked.items() if free.get(name, 0) < amount] or list(asked)
    has = ", ".join(f"{there.get(name, 0):g} {name}, {max(0.0, free.get(name, 0)):g} of them free" for name in missing)
    return f"each asks for {', '.join(f'{amount:g} {name}' for name, amount in asked.items())}; the cluster has {has}"


def require_resource(name: str, workers: int, there: Mapping[str, float]) -> None:
    """ConfigError when the cluster has less of `rollout.resource` than the rollout workers ask for, one each.

    Args:
        name: The resource.
        workers: Rollout workers that begin.
        there: What the cluster has (`capacity`).
    """
    if there.get(name, 0) >= workers:
        return
    known = sorted(other for other in there if other not in ("CPU", "GPU") and not other.startswith(_INTERNAL))
    if not there.get(name):
        raise ConfigError(
            f"rollout.resource = {name!r}: no node of the cluster has it (resources there: {', '.join(known) or 'none'});"
            f" start Ray there with --resources='{{\"{name}\": 1}}', or leave it empty"
        )
    raise ConfigError(
        f"rollout.resource = {name!r}: {workers} rollout workers ask for one each, the cluster has {there[name]:g}: lower"
        " rollout.workers"
    )


def free() -> dict[str, float]:
    """Returns what nobody has taken."""
    return dict(ray.available_resources())
