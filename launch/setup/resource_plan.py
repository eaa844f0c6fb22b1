"""What a run will need: processes, devices, memory, seconds, steps. Refuses what cannot fit, with what makes it fit.

config, model ─▶ ModelShape ─▶ memory of each process ─▶ fits? ─▶ Plan ─▶ text of `--dry-run` and of the head of a run
                     └──────▶ seconds of a step (an estimate)
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.context_limit import check_context
from launch.setup.fitting import remedy
from launch.setup.memory_plan import GB
from launch.setup.model_shape import model_config, planned_shape
from launch.setup.object_store import described_store
from launch.setup.planned_processes import (
    CacheRoom,
    PlannedProcess,
    Shapes,
    cache_room,
    engine_memory,
    gpu_bytes,
    overfull,
    processes_of,
)
from launch.setup.time_plan import Rates, assumed_lengths, step_seconds

Stages = Literal["cold_start", "all"]
"""What a driver runs: the cold start with the evaluations around it, or that and online RL."""


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
        return notes


def gpus_needed(config: Config, stages: Stages) -> int:
    """Returns how many GPUs a driver takes at a time: the parts of a cold start follow one another, online RL runs all."""
    if config.cluster.share_gpu:
        return 1
    workers, ranks = config.rollout.workers, config.learner.ranks
    if stages == "cold_start":
        return max(workers, ranks)
    return workers + ranks + (config.meta_rm.ranks if config.meta_rm.enabled else 0)


def planned(config: Config, model: str) -> Plan:
    """Returns the plan of a run of this model, a folder or hub name.

    Raises:
        ConfigError: Nothing is known of the model, it cannot read as much, or a process does not fit its device.
    """
    check_context(config, model_config(model))
    meta = planned_shape(config, model, scalar_head=True) if config.meta_rm.enabled else None
    shapes = Shapes(policy=planned_shape(config, model), meta_rm=meta)
    if problem := overfull(config, shapes, machine=_ram()):
        raise ConfigError(
            f"{problem.what}: {problem.needed / GB:.1f} GB are planned, and {problem.there / GB:.1f} may be ({problem.parts});"
            f" {remedy(config, shapes, machine=_ram())}"
        )
    return Plan(config=config, model=model, shapes=shapes, processes=processes_of(config, shapes))


def describe(plan: Plan) -> str:
    """Returns the plan as text, for `--dry-run` and the head of a run."""
    config = plan.config
    g, r = config.grpo, config.rollout
    lines = [f"device     {_device(config)}, {config.dtype}"]
    lines += [
        f"process    {p.count} x {p.name}: {p.size / GB:.1f} GB each ({p.describe()}){_left(plan, p)}" for p in plan.processes
    ]
    lines += [f"memory     {_memory(plan)}", f"cache      {_cache(plan)}", f"store      {described_store(config, plan.model)}"]
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


def _left(plan: Plan, process: PlannedProcess) -> str:
    """What a process leaves of a GPU of its own, with a separator; "" where it has none."""
    config = plan.config
    if config.cluster.device == "cpu" or config.cluster.share_gpu or not process.on_device:
        return ""
    return f", {(gpu_bytes(config) - process.size) / GB:.1f} left"


def _memory(plan: Plan) -> str:
    shared = plan.config.cluster.share_gpu
    taken = sum(p.size * p.count for p in plan.processes if p.on_device or plan.config.cluster.device == "cpu")
    text = f"{taken / GB:.1f} GB planned in all"
    if shared or plan.config.cluster.device == "cpu":
        text += f", {((gpu_bytes(plan.config) if shared else _ram()) - taken) / GB:.1f} left"
    return text


def _cache(plan: Plan) -> str:
    r, room = plan.config.rollout, plan.room
    return (
        f"{engine_memory(plan.config, plan.shapes.policy).kv_cache / GB:.1f} GB an engine: {room.tokens:,} tokens, about"
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
    kv_cache = engine_memory(config, shapes.policy).kv_cache
    s = step_seconds(config, shapes.policy, meta=shapes.meta_rm, kv_cache=kv_cache, rates=Rates())
    meta = f", meta-RM {s.meta_rm:.0f} s beside them" if s.meta_rm else ""
    if s.one_gpu:
        meta = f", meta-RM {s.meta_rm:.0f} s" if s.meta_rm else ""
    parts = f"generation {s.generation:.0f} s; training {s.training:.0f} s + publishing {s.publishing:.0f} s{meta}"
    days = config.grpo.steps * s.step / 86400
    return [
        f"a step takes about {s.step:.0f} s: {parts}; {s.slower} is the slower side",
        f"{config.grpo.steps} steps in about {days:.1f} days, by formula, on H100s, at {_lengths(config)}: never measured",
    ]


def _ram() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
