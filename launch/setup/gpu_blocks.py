"""Which processes of a run lie on one node: pure functions of its parts and of the nodes' GPUs.

    parts: 32 ranks, 16 ranks, 8 engines ─┐
    nodes: GPUs of each                  ─┴▶ blocks, each on one node ─▶ bundles of a placement group; the drawing of a plan

Ranks that exchange weights and gradients fill nodes: within one they are connected by NVLink, between two by a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from configs.schema import Config

Stages = Literal["cold_start", "all"]
"""What a driver runs: the cold start with the evaluations around it, or that and online RL."""

POLICY, META_RM, ENGINE = "policy", "meta-RM", "engine"
NODE_GPUS = 8  # of a node, where a plan is drawn before a cluster is known


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Processes of one kind, which need their GPUs at the same time."""

    name: str
    """What they are."""
    count: int
    """Processes, at least 1."""
    gpus: int = 1
    """GPUs of each, all of one node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Processes of one part that lie on one node."""

    part: str
    """Name of the part."""
    processes: int
    """How many of them, at least 1."""
    gpus: int
    """GPUs of all of them together."""
    node: int
    """The node, by its place in the list that they were laid out on."""


def parts_of(config: Config) -> list[Part]:
    """Returns the parts of online RL that take GPUs of their own; none on CPU, or where they have shares of one GPU."""
    if config.cluster.share_gpu or config.cluster.device == "cpu":
        return []
    meta = [Part(name=META_RM, count=config.meta_rm.ranks)] if config.meta_rm.enabled else []
    return [Part(name=POLICY, count=config.learner.ranks), *meta, engines_of(config)]


def engines_of(config: Config) -> Part:
    """Returns all rollout workers of the config, as a part."""
    return Part(name=ENGINE, count=config.rollout.workers, gpus=config.rollout.tensor_parallel)


def held_parts(config: Config, stages: Stages) -> list[Part]:
    """Returns what a run cannot begin without, and therefore takes as a whole or not at all: all ranks, and one engine.

    The other engines come when there is room, and a run that lacks some goes on. The stages of a cold start follow one another,
    so its engine and its ranks use the same GPUs: as many of one node as the engine takes, and those that the ranks take beyond
    them; not where engines ask for a custom resource of their nodes.
    """
    needed = [replace(part, count=1) if part.name == ENGINE else part for part in parts_of(config)]
    if stages == "all" or not needed:
        return needed
    policy, engine = needed[0], needed[-1]
    if config.rollout.resource:
        return [policy, engine]
    if engine.gpus == 1:
        return [policy]
    beyond = policy.count - engine.gpus
    return [engine, replace(policy, count=beyond)] if beyond > 0 else [engine]


def stage_engines(config: Config, gpus: int) -> int:
    """Returns how many engines a stage without learners starts: as many as the run has GPUs for, `gpus`, since nothing beside
    them needs any; where engines ask for a custom resource of their nodes, as many as online RL."""
    if config.rollout.resource:
        return config.rollout.workers
    return max(config.rollout.workers, gpus // config.rollout.tensor_parallel)


def lay_out(parts: Sequence[Part], nodes: Sequence[int]) -> list[Block] | None:
    """Returns where the processes lie, in few blocks: a part that fits one node lies on one, the fullest
    that holds it; else it fills the emptiest. None where there is no room.

    Example: 32, 16 and 8 of one GPU each on seven nodes of 8: 4 nodes of the first, 2 of the second, 1 of the third.

    Args:
        parts: In the order in which they choose; where that leaves no node with room for a process of several GPUs, those
            choose first.
        nodes: GPUs of each node that may be taken.
    """
    in_order = _laid_out(parts, nodes)
    return in_order if in_order is not None else _laid_out(sorted(parts, key=lambda part: -part.gpus), nodes)


def _laid_out(parts: Sequence[Part], nodes: Sequence[int]) -> list[Block] | None:
    left, blocks = [*nodes], list[Block]()
    for part in parts:
        missing = part.count
        while missing:
            holding = [node for node, gpus in enumerate(left) if gpus >= missing * part.gpus]
            node = min(holding, key=left.__getitem__) if holding else max(range(len(left)), key=left.__getitem__, default=0)
            here = min(missing, left[node] // part.gpus) if left else 0
            if not here:
                return None
            blocks.append(Block(part=part.name, processes=here, gpus=here * part.gpus, node=node))
            left[node] -= here * part.gpus
            missing -= here
    return blocks


def nodes_needed(parts: Sequence[Part], gpus: int = NODE_GPUS) -> int | None:
    """Returns the fewest nodes of as many GPUs that hold the parts; None where no number does."""
    at_least = -(-sum(part.count * part.gpus for part in parts) // gpus)
    at_most = sum(part.count for part in parts)
    return next((nodes for nodes in range(at_least, at_most + 1) if lay_out(parts, [gpus] * nodes)), None)


def drawn(blocks: Sequence[Block], nodes: Sequence[str]) -> list[str]:
    """Returns a line for each node that has any of the blocks, and for equal ones that follow each other one line together.

    >>> blocks = lay_out([Part(name="policy", count=19), Part(name="engine", count=1)], [8, 8, 8])
    >>> drawn(blocks, ["a", "b", "c"])
    ['a, b: policy 8', 'c: policy 3, engine 1']

    Args:
        blocks: Of `lay_out`, or as a cluster placed them.
        nodes: Name of each node.
    """
    texts: dict[str, list[str]] = {}
    for number, name in enumerate(nodes):
        counts = dict.fromkeys((block.part for block in blocks if block.node == number), 0)
        for block in blocks:
            counts |= {block.part: counts[block.part] + block.gpus} if block.node == number else {}
        if counts:
            texts.setdefault(", ".join(f"{part} {gpus}" for part, gpus in counts.items()), []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in texts.items()]
