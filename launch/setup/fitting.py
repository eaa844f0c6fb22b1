"""Which settings make a run fit that does not: each is tried in the plan itself.

not fitting ─▶ one knob that is enough, else the fewest of all together, the cheapest first ─▶ words for the error
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from configs.schema import Config
from launch.setup.gpu_blocks import NODE_GPUS
from launch.setup.memory_plan import WIDTHS, kv_token_bytes
from launch.setup.planned_processes import Shapes, overfull

MOST_RANKS = 1024
MOST_GPU_MEMORY = 0.95  # of `rollout.gpu_memory`
LORA_RANK = 32

Change = Mapping[str, Any]
"""{section.leaf: its new value}."""


def remedy(config: Config, shapes: Shapes, *, machine: float) -> str:
    """Returns what to change so that the plan fits; arguments as of `overfull`."""

    def fits(change: Change) -> bool:
        changed = _with(config, change)
        meta = shapes.meta_rm if changed.meta_rm.enabled else None
        return overfull(changed, Shapes(policy=shapes.policy, meta_rm=meta), machine=machine) is None

    for knob in KNOBS:
        for change in knob(config, shapes):
            if fits(change):
                return _words(change)
    so_far: dict[str, Any] = {}
    for knob in KNOBS:
        for change in knob(_with(config, so_far), shapes):
            if fits({**so_far, **change}):
                return _words(_needed({**so_far, **change}, fits))
        so_far |= {leaf: value for change in knob(_with(config, so_far), shapes) for leaf, value in change.items()}
    where = "GPUs with more memory (cluster.gpu_memory_gb)" if config.cluster.device == "cuda" else "a larger machine"
    return f"no setting makes it fit; use a smaller model or {where}"


def _needed(change: dict[str, Any], fits: Callable[[Change], bool]) -> Change:
    """The change without what it fits without."""
    for leaf in list(change):
        rest = {other: value for other, value in change.items() if other != leaf}
        if fits(rest):
            change = rest
    return change


def _micro_tokens(config: Config, shapes: Shapes) -> Iterator[Change]:
    context, meta = config.model.context, config.meta_rm
    change = {"learner.micro_tokens": context} if config.learner.micro_tokens > context else {}
    change |= {"meta_rm.micro_tokens": context} if meta.enabled and meta.micro_tokens > context else {}
    yield from ({leaf: value} for leaf, value in change.items())
    if len(change) > 1:
        yield change


def _checkpointing(config: Config, shapes: Shapes) -> Iterator[Change]:
    if not config.learner.gradient_checkpointing:
        yield {"learner.gradient_checkpointing": True}


def _zero_3(config: Config, shapes: Shapes) -> Iterator[Change]:
    learner, meta = config.learner, config.meta_rm
    change = {"learner.zero_stage": 3} if learner.ranks > 1 and learner.zero_stage < 3 else {}
    change |= {"meta_rm.zero_stage": 3} if meta.enabled and meta.ranks > 1 and meta.zero_stage < 3 else {}
    yield from ({leaf: value} for leaf, value in change.items())
    if len(change) > 1:
        yield change


def _gpu_memory(config: Config, shapes: Shapes) -> Iterator[Change]:
    if config.kv_cache_bytes is None and config.rollout.gpu_memory < MOST_GPU_MEMORY:
        yield {"rollout.gpu_memory": MOST_GPU_MEMORY}


def _kv_cache(config: Config, shapes: Shapes) -> Iterator[Change]:
    """A smaller cache, half at a time, down to that of one group; a larger one where it does not hold a sequence."""
    if config.kv_cache_bytes is None:
        return
    token, r, mib = kv_token_bytes(shapes.policy, WIDTHS[config.dtype]), config.rollout, config.rollout.kv_cache_mb
    group = max(r.orders * config.max_prompt_tokens + r.samples * r.max_new_tokens, config.model.context)
    least = math.ceil(token * group / (1 << 20))
    while mib > 2 * least:
        mib //= 2
        yield {"rollout.kv_cache_mb": mib}
    if mib != least:
        yield {"rollout.kv_cache_mb": least}


def _tensor_parallel(config: Config, shapes: Shapes) -> Iterator[Change]:
    """Engines of several GPUs of one node, by numbers that the heads divide into; adapters are loaded by one process only."""
    policy, now = shapes.policy, config.rollout.tensor_parallel
    if config.kv_cache_bytes is None and not config.learner.lora_rank:
        for processes in range(now + 1, NODE_GPUS + 1):
            if policy.kv_heads and not policy.heads % processes and not policy.kv_heads % processes:
                yield {"rollout.tensor_parallel": processes}


def _policy_ranks(config: Config, shapes: Shapes) -> Iterator[Change]:
    """More ranks, of numbers that the batch divides into."""
    completions = config.grpo.batch_groups * config.rollout.samples
    if config.kv_cache_bytes is None:  # each has a GPU of its own
        for ranks in range(config.learner.ranks + 1, min(MOST_RANKS, completions) + 1):
            if completions % ranks == 0:
                yield {"learner.ranks": ranks}
                yield {"learner.ranks": ranks, "learner.zero_stage": 3}


def _meta_ranks(config: Config, shapes: Shapes) -> Iterator[Change]:
    if config.kv_cache_bytes is None and config.meta_rm.enabled:
        for ranks in range(config.meta_rm.ranks + 1, MOST_RANKS + 1):
            yield {"meta_rm.ranks": ranks}
            yield {"meta_rm.ranks": ranks, "meta_rm.zero_stage": 3}


def _offload(config: Config, shapes: Shapes) -> Iterator[Change]:
    """The optimisers into the machine's memory; at ZeRO 2 the sums of gradients as well."""
    if config.cluster.device != "cuda" or config.learner.optimizer_offload:
        return
    stages = {"learner.zero_stage": config.learner.zero_stage}
    stages |= {"meta_rm.zero_stage": config.meta_rm.zero_stage} if config.meta_rm.enabled else {}
    for least in (1, 2):
        yield {"learner.optimizer_offload": True} | {leaf: least for leaf, stage in stages.items() if stage < least}


def _lora(config: Config, shapes: Shapes) -> Iterator[Change]:
    """Adapters in place of all weights; each rank then holds the whole model, so ZeRO 3 divides nothing."""
    if not config.learner.lora_rank and config.rollout.tensor_parallel == 1 and shapes.policy.linear:
        stages = {"learner.zero_stage": config.learner.zero_stage}
        stages |= {"meta_rm.zero_stage": config.meta_rm.zero_stage} if config.meta_rm.enabled else {}
        yield {"learner.lora_rank": LORA_RANK} | {leaf: 1 for leaf, stage in stages.items() if stage == 3}


def _no_meta_rm(config: Config, shapes: Shapes) -> Iterator[Change]:
    if config.meta_rm.enabled:
        yield {"meta_rm.enabled": False}


KNOBS: tuple[Callable[[Config, Shapes], Iterator[Change]], ...] = (
    _micro_tokens,
    _checkpointing,
    _zero_3,
    _gpu_memory,
    _kv_cache,
    _tensor_parallel,
    _policy_ranks,
    _meta_ranks,
    _offload,
    _lora,
    _no_meta_rm,
)
"""What can be turned, the cheapest first: less at a time, then more time, then more GPUs, then a slow optimiser, then less that
is trained."""


def _with(config: Config, change: Change) -> Config:
    """A config with some leaves changed; its laws are not checked again."""
    for leaf, value in change.items():
        section, _, name = leaf.partition(".")
        config = config.model_copy(update={section: getattr(config, section).model_copy(update={name: value})})
    return config


def _words(change: Change) -> str:
    """What a change does, with its leaves as the command line has them."""
    leaves = " ".join(f"{leaf}={str(value).lower()}" for leaf, value in change.items())
    return f"{leaves} {'makes' if len(change) == 1 else 'together make'} it fit"
