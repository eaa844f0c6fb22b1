"""What a run will need: processes, devices, memory, seconds, steps. Refuses what cannot fit, with what makes it fit.

config, model ─▶ ModelShape ─▶ memory of each process ─▶ fits? ─▶ Plan ─▶ text of `--dry-run` and of the head of a run
                     └──────▶ seconds of a step (an estimate)
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.context_limit import check_context
from launch.setup.engine_cut import check_tensor_parallel
from launch.setup.fitting import remedy
from launch.setup.gpu_blocks import ENGINE, NODE_GPUS, POLICY, Stages, drawn, lay_out, nodes_needed, parts_of
from launch.setup.gpu_split import better_split
from launch.setup.host_memory import HostMemory, check_host_memory, described_host
from launch.setup.memory_plan import GB
from launch.setup.model_shape import found_shape, model_config
from launch.setup.object_store import described_store
from launch.setup.planned_processes import (
    CacheRoom,
    PlannedProcess,
    Shapes,
    cache_room,
    engine_cache,
    gpu_bytes,
    host_of,
    overfull,
    processes_of,
)
from launch.setup.time_plan import Rates, assumed_lengths, step_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will need, and fits."""

    config: Config
    """The run's."""
    model: str
    """Folder or hub name of the base model."""
    shapes: Shapes
    """Its models."""
    processes: Sequence[PlannedProcess]
    """Its processes, with the memory of each."""

    @property
    def room(self) -> CacheRoom:
        """What the KV cache of an engine holds."""
        return cache_room(self.config, self.shapes.policy)

    @property
    def host(self) -> HostMemory:
        """What it takes of the machine's own memory beside its processes."""
        return host_of(self.config, self.shapes)

    def notes(self) -> list[str]:
        """Returns a sentence for each thing that goes, and is seldom meant."""
        r, policy, notes = self.config.rollout, self.shapes.policy, []
        if policy.guessed_from:
            notes.append(
                f"the model's config.json is not here: planned with the shape of {policy.guessed_from}, scaled to"
                f" {policy.parameters / 1e9:g}e9 parameters (model.billions)"
            )
        if self.room.groups < r.max_groups:
            notes.append(
                f"rollout.max_groups = {r.max_groups} groups of {r.samples} completions are more than the KV cache of an engine"
                f" holds, about {self.room.groups} at {_lengths(self.config)}: vLLM queues the rest; lower it"
            )
        if better := better_split(self.config, self.shapes):
            notes.append(better)
        return notes


def gpus_needed(config: Config, stages: Stages) -> int:
    """Returns how many GPUs a driver takes at a time, 0 on CPU: the parts of a cold start follow one another, online RL runs
    all. Engines that ask for a custom resource have no use for the GPUs of the ranks."""
    if config.cluster.share_gpu:
        return 1
    sizes = {part.name: part.count * part.gpus for part in parts_of(config)}
    if stages == "cold_start":
        policy, engines = sizes.get(POLICY, 0), sizes.get(ENGINE, 0)
        return policy + engines if config.rollout.resource else max(policy, engines)
    return sum(sizes.values())


def planned(config: Config, model: str) -> Plan:
    """Returns the plan of a run of this model, a folder or hub name.

    Raises:
        ConfigError: Nothing is known of the model, it cannot read as much, or a process does not fit its device.
    """
    check_context(config, model_config(model))
    check_tensor_parallel(config, model_config(model))
    meta = found_shape(config, model, scalar_head=True) if config.meta_rm.enabled else None
    shapes = Shapes(policy=found_shape(config, model), meta_rm=meta)
    if problem := overfull(config, shapes, machine=_ram()):
        raise ConfigError(
            f"{problem.what}: {problem.needed / GB:.1f} GB are planned, and {problem.there / GB:.1f} may be ({problem.parts});"
            f" {remedy(config, shapes, machine=_ram())}"
        )
    return Plan(config=config, model=model, shapes=shapes, processes=processes_of(config, shapes))


def check_machine(plan: Plan) -> None:
    """ConfigError as of `check_host_memory`, for the machine that this is. (A plan may be of another one.)"""
    check_host_memory(plan.config, plan.host, _ram())


def describe(plan: Plan) -> str:
    """Returns the plan as text, for `--dry-run` and the head of a run."""
    config = plan.config
    g, r = config.grpo, config.rollout
    lines = [f"device     {_device(config)}, {config.dtype}"]
    lines += [
        f"process    {p.count} x {p.name}: {p.size / GB:.1f} GB each ({p.describe()}){_left(plan, p)}" for p in plan.processes
    ]
    lines += [f"nodes      {text}" for text in _nodes(config)]
    lines += [f"memory     {_memory(plan)}", f"host       {described_host(config, plan.host)}"]
    lines += [f"cache      {_cache(plan)}", f"store      {described_store(config, plan.model)}"]
    lines += [f"estimate   {text}" for text in _estimates(plan)]
    lines += [
        f"steps      {g.steps} optimiser steps x {g.batch_groups} groups x {r.samples} completions"
        f" = {g.steps * g.batch_groups * r.samples:,} completions trained, up to"
        f" {g.steps * g.batch_groups * r.samples * r.max_new_tokens:,} tokens",
        f"staleness  at most {g.max_staleness} ({g.stale}): {config.credit} groups outstanding; near"
        f" {g.max_staleness} when the learner is the slower side, near 0 when the rollouts are",
        f"lengths    prompt <= {config.max_prompt_tokens}, completion <= {r.max_new_tokens} tokens",
        f"data       train {', '.join(config.data.train)}; held out {', '.join(config.data.heldout)}",
    ]
    lines += [f"note       {note}" for note in plan.notes()]
    return "\n".join(lines)


def _device(config: Config) -> str:
    if config.cluster.device == "cpu":
        return f"{os.cpu_count()} CPU cores, {_ram() / GB:.0f} GB"
    gpus, size = gpus_needed(config, "all"), f"{config.cluster.gpu_memory_gb:g} GB"
    return f"one GPU of {size} for all processes" if config.cluster.share_gpu else f"{gpus} GPUs of {size}, one a process"


def _nodes(config: Config) -> list[str]:
    """Which node has which parts, where there are more than a few GPUs: on nodes of 8, as nobody knows the cluster yet."""
    parts = parts_of(config)
    count = nodes_needed(parts) if parts else None
    blocks = lay_out(parts, [NODE_GPUS] * count) if count else None
    if count is None or blocks is None:
        return []
    return [f"of {NODE_GPUS} GPUs: {line}" for line in drawn(blocks, [str(number + 1) for number in range(count)])]


def _left(plan: Plan, process: PlannedProcess) -> str:
    """What a process leaves of a GPU of its own, with a separator; "" where it has none."""
    config = plan.config
    if config.cluster.device == "cpu" or config.cluster.share_gpu or not process.on_device:
        return ""
    return f", {(gpu_bytes(config) - process.size) / GB:.1f} left"


def _memory(plan: Plan) -> str:
    shared, on_cpu = plan.config.cluster.share_gpu, plan.config.cluster.device == "cpu"
    taken = sum(p.size * p.count for p in plan.processes if p.on_device or on_cpu) + (plan.host.needed if on_cpu else 0.0)
    text = f"{taken / GB:.1f} GB planned in all"
    if shared or on_cpu:
        text += f", {((gpu_bytes(plan.config) if shared else _ram()) - taken) / GB:.1f} left"
    return text


def _cache(plan: Plan) -> str:
    r, room = plan.config.rollout, plan.room
    return (
        f"{engine_cache(plan.config, plan.shapes.policy) / GB:.1f} GB an engine: {room.tokens:,} tokens, about"
        f" {room.groups} groups of {r.samples} at {_lengths(plan.config)} (rollout.max_groups {r.max_groups})"
    )


def _lengths(config: Config) -> str:
    lengths = assumed_lengths(config)
    return f"{lengths.prompt:,} tokens a prompt and {lengths.completion:,} a completion"


def _estimates(plan: Plan) -> list[str]:
    """The seconds of a step, in words; none on CPU, of which too little is known."""
    config, shapes = plan.config, plan.shapes
    if config.cluster.device == "cpu":
        return []
    kv_cache = engine_cache(config, shapes.policy)
    s = step_seconds(config, shapes.policy, meta=shapes.meta_rm, kv_cache=kv_cache, rates=Rates())
    meta = f", meta-RM {s.meta_rm:.0f} s beside them" if s.meta_rm else ""
    if s.one_gpu:
        meta = f", meta-RM {s.meta_rm:.0f} s" if s.meta_rm else ""
    parts = f"generation {s.generation:.0f} s; training {s.training:.0f} s + publishing {s.publishing:.0f} s{meta}"
    whole = _long(config.grpo.steps * s.step)
    return [
        f"a step takes about {s.step:.0f} s: {parts}; {s.slower} is the slower side",
        f"{config.grpo.steps} steps in about {whole}, by formula, on H100s, at {_lengths(config)}: never measured",
    ]


def _long(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _ram() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
