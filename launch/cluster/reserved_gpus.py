"""The GPUs that a run cannot begin without: one placement group, all of it or nothing, from the run's start to its end.

    parts, free GPUs of each node ─▶ bundles, each on one node ─▶ reserve ─▶ actors take room in a bundle ─▶ release

Ray places each actor by itself. Without a reservation the ranks of a learner lie anywhere, two runs can each hold half of what
they need and wait for the other half, and fractions of a GPU land on any card. A bundle lies on one node, its GPUs are nobody
else's, and Ray gives a placement group all of its bundles or none.

With `cluster.share_gpu` there is one bundle of one GPU, of which each actor takes a share.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util import placement_group_table
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from configs.load import ConfigError
from launch.cluster.capacity import Demand, gpus_of_nodes
from launch.setup.gpu_blocks import ENGINE, Block, Part, drawn, lay_out

GRAIN = 10_000  # Ray counts resources in steps of 1/10,000
CLOSE = 0.5 / GRAIN
REMEDY = "end what uses them, add nodes, or lower learner.ranks or meta_rm.ranks"
SHARED_REMEDY = "end what uses them, or start Ray on a node with a GPU"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Resources of one node."""

    part: str
    """Whose actors they are for; "": anybody's."""
    demand: Demand
    """How much of each."""


def one_shared_gpu(*, actors: int, cpus: float, resource: str) -> tuple[Bundle, Demand]:
    """Returns the bundle of a GPU that all actors of a run share, and what each of them asks for.

    Args:
        actors: Those that live at a time, at most.
        cpus: CPUs of each.
        resource: The custom Ray resource that one of them takes; "": none.
    """
    whole = {"GPU": 1.0, "CPU": cpus * actors} | ({resource: 1.0} if resource else {})
    return Bundle(part="", demand=whole), {"CPU": cpus, "GPU": (GRAIN // actors) / GRAIN}


def bundles_of(parts: Sequence[Part], *, cpus: float, resource: str) -> list[Bundle]:
    """Returns the bundles of these parts: cut to the GPUs that are free on each node now, or, where these do not do, to all
    that the nodes have, or that an autoscaler may add.

    Args:
        parts: What is taken as a whole.
        cpus: CPUs beside each GPU.
        resource: The custom Ray resource that each engine takes; "": none.

    Raises:
        ConfigError: No node that there is or may be added has as many GPUs as a process asks for.
    """
    nodes = gpus_of_nodes()
    found = (lay_out(parts, there) for there in (nodes.free, nodes.all, nodes.possible))
    blocks = next((blocks for blocks in found if blocks is not None), None)
    if blocks is None:
        asked = ", ".join(f"{part.name} {part.count} x {part.gpus} GPU" for part in parts)
        there = ", ".join(map(str, nodes.possible)) or "none"
        raise ConfigError(f"the cluster's nodes have no room for {asked}; GPUs of each node: {there}")
    return [
        Bundle(
            part=block.part,
            demand={"GPU": float(block.gpus), "CPU": cpus * block.gpus}
            | ({resource: float(block.processes)} if resource and block.part == ENGINE else {}),
        )
        for block in blocks
    ]


class ReservedGpus:
    """Bundles of a run, and which actor has how much of which. They are released when the driver ends, if not before."""

    def __init__(self, bundles: Sequence[Bundle], *, is_shared: bool = False) -> None:
        """Reserves nothing yet.

        Args:
            bundles: At least one.
            is_shared: They are one GPU for all: what finds no room in it waits there, and goes nowhere else.
        """
        self._bundles, self._is_shared = bundles, is_shared
        self._left = [dict(bundle.demand) for bundle in bundles]
        self._taken: dict[str, tuple[int, Demand]] = {}  # by the actor's id: its bundle, and what it has of it
        self._group: PlacementGroup | None = None

    def reserve(self, *, limit_s: float) -> None:
        """Wait until all of them are free at a time, and take them. TimeoutError when they are not within `limit_s`."""
        strategy = "STRICT_PACK" if len(self._bundles) == 1 else "PACK"
        self._group = placement_group([dict(bundle.demand) for bundle in self._bundles], strategy=strategy)
        if not self._group.wait(timeout_seconds=limit_s):
            self.release()
            raise TimeoutError(
                f"the driver waited {limit_s:.0f} s for GPUs (waits.start_s): {self._asked()}; they were never free all at a"
                f" time, and now {_free_text()} are; {SHARED_REMEDY if self._is_shared else REMEDY}"
            )

    def room(self, demand: Demand, part: str) -> int | None:
        """Returns the bundle in which an actor has room, None where none has.

        Args:
            demand: What it asks for.
            part: Its part, whose bundles alone it may use; "": any of them, the first first.
        """
        for number, bundle in enumerate(self._bundles):
            left = self._left[number]
            is_its_own = not part or bundle.part in ("", part)
            if is_its_own and all(left.get(name, 0.0) > amount - CLOSE for name, amount in demand.items() if amount):
                return number
        return 0 if self._is_shared else None

    def options(self, bundle: int) -> dict[str, Any]:
        """Returns the options of an actor that is made in a bundle."""
        assert self._group is not None  # reserved before any actor is made
        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)}

    def take(self, actor: str, bundle: int, demand: Demand) -> None:
        """Note that the actor of this id has its demand of a bundle."""
        self._taken[actor] = (bundle, demand)
        self._add(bundle, demand, -1)

    def give_back(self, actor: str) -> None:
        """Note that an actor has ended. Harmless for one that had nothing."""
        if actor in self._taken:
            self._add(*self._taken.pop(actor), 1)

    def drawing(self) -> list[str]:
        """Returns which node has which parts, a line for each node, as Ray has placed them."""
        assert self._group is not None
        names = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        places: Mapping[int, str] = placement_group_table(self._group)["bundles_to_node_id"]
        nodes = list(dict.fromkeys(places[number] for number in range(len(self._bundles))))
        blocks = [
            Block(part=bundle.part, processes=0, gpus=int(bundle.demand["GPU"]), node=nodes.index(places[number]))
            for number, bundle in enumerate(self._bundles)
        ]
        return drawn(blocks, [names.get(node, node) for node in nodes])

    def release(self) -> None:
        """Let others have the GPUs; actors on them end. Harmless when repeated."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def _add(self, bundle: int, demand: Demand, sign: int) -> None:
        for name, amount in demand.items():
            self._left[bundle][name] = self._left[bundle].get(name, 0.0) + sign * amount

    def _asked(self) -> str:
        """What is reserved, in words: bundles that are equal together."""
        texts = Counter[str]()
        for bundle in self._bundles:
            amounts = ", ".join(f"{amount:g} {name}" for name, amount in bundle.demand.items())
            texts[f"{amounts} of one node" + (f" for the {bundle.part}" if bundle.part else "")] += 1
        return "; ".join(f"{count} times {text}" if count > 1 else text for text, count in texts.items())


def _free_text() -> str:
    nodes = gpus_of_nodes()
    counts = Counter(f"{free} of {whole} GPU" for free, whole in zip(nodes.free, nodes.all, strict=True))
    texts = (f"{text} on {count} node" + ("s" if count > 1 else "") for text, count in counts.items())
    return ", ".join(texts) or "none, as no node has any,"
