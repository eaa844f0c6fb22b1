"""What a run will be, before it is: processes, devices, memory, steps. Refuses what cannot fit.

Memory of a rank with P parameters and W ranks, by ZeRO stage (weights + gradients + AdamW's master copy and moments):

    bytes(0) = 16 P    bytes(1) = wg P + (16 - wg) P / W    bytes(2) = w P + (16 - w) P / W    bytes(3) = 16 P / W

with w = 4, wg = 8 in float32 and w = 2, wg = 4 in bfloat16; the policy's ranks hold the reference as well: w P, or
w P / W at stage 3. Activations come on top; the plan says what is left for them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.model_files import architecture

GIB = 1 << 30
PROCESS_GIB = 0.7  # interpreter, libraries and buffers of one actor, as measured
HEADROOM = 0.95  # of a device may be planned for


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedProcess:
    """One kind of process: how many, on what, and GiB planned for each."""

    name: str
    count: int
    gib: float
    note: str


def gpus_needed(config: Config) -> int:
    meta = config.meta_rm.ranks if config.meta_rm.enabled else 0
    return config.rollout.workers + config.learner.ranks + meta


def object_store_bytes(model: str) -> int:
    """Room for a few published versions (float32 at most) and the data that travels with calls."""
    arch = architecture(model)
    parameters = parameters_of(arch) if arch else 0
    return max(256 << 20, int(4 * 4 * parameters))


def planned_processes(config: Config, model: str) -> list[PlannedProcess]:
    """The processes of the run with their planned memory; ConfigError when one cannot fit its device."""
    arch = architecture(model)
    check_context(config, arch)
    count = _parameters(config, arch)
    width = 4 if config.dtype == "float32" else 2
    cpu = config.cluster.device == "cpu"
    fixed = PROCESS_GIB if cpu else 1.5  # a CUDA context and its workspaces
    weights = width * count / GIB
    cache = config.rollout.kv_cache_mb / 1024 if cpu else _gpu_gib(config) * config.rollout.gpu_memory - weights - fixed
    learner, meta = config.learner, config.meta_rm
    reference = weights / (learner.ranks if learner.zero_stage == 3 else 1) if config.grpo.beta > 0 else 0.0
    found = [
        PlannedProcess(
            name="rollout actor (vLLM)",
            count=config.rollout.workers,
            gib=weights + cache + fixed,
            note=f"weights {weights:.1f}, KV cache {cache:.1f}",
        ),
        PlannedProcess(name="reward actor", count=1, gib=0.3, note="on CPU"),
        PlannedProcess(
            name=f"GRPO learner (DeepSpeed ZeRO {learner.zero_stage})",
            count=learner.ranks,
            gib=_rank_gib(count, width, learner.ranks, learner.zero_stage) + reference + fixed,
            note=f"reference {reference:.1f}",
        ),
    ]
    if meta.enabled:
        found.append(
            PlannedProcess(
                name=f"meta-RM learner (DeepSpeed ZeRO {meta.zero_stage})",
                count=meta.ranks,
                gib=_rank_gib(count, width, meta.ranks, meta.zero_stage) + fixed,
                note="",
            )
        )
    _check_memory(config, found, cache)
    return found


def describe(config: Config, found: list[PlannedProcess]) -> str:
    """The plan as text, for `--dry-run` and the head of a run."""
    g, r = config.grpo, config.rollout
    device = (
        f"{os.cpu_count()} CPU cores, {_ram_gib():.0f} GiB"
        if config.cluster.device == "cpu"
        else f"{gpus_needed(config)} GPUs of {config.cluster.gpu_memory_gb:.0f} GB, one a process"
    )
    lines = [f"device     {device}, {config.dtype}"]
    lines += [f"process    {p.count} x {p.name}: {p.gib:.1f} GiB each{f' ({p.note})' if p.note else ''}" for p in found]
    lines += [
        f"memory     {sum(p.gib * p.count for p in found):.1f} GiB planned in all, activations on top",
        f"steps      {g.steps} optimiser steps x {g.batch_groups} groups x {r.samples} completions"
        f" = {g.steps * g.batch_groups * r.samples:,} completions trained, up to"
        f" {g.steps * g.batch_groups * r.samples * r.max_new_tokens:,} tokens",
        f"staleness  at most {g.max_staleness} ({g.stale}): {config.credit} groups outstanding; near"
        f" {g.max_staleness} when the learner is the slower side, near 0 when the rollouts are",
        f"lengths    prompt <= {config.max_prompt_tokens}, completion <= {r.max_new_tokens} tokens",
        f"data       train {', '.join(config.data.train)}; held out {', '.join(config.data.heldout)}",
    ]
    return "\n".join(lines)


def parameters_of(arch: Mapping[str, object]) -> float:
    """Parameters of a Llama-shaped decoder (Llama, Qwen3, Gemma-2) from its config.json, norms left out."""

    def number(key: str, default: float | None = None) -> float:
        value = arch.get(key, default)
        if not isinstance(value, int | float):
            raise ConfigError(f"the model's config.json has no number {key!r}; is it a causal language model?")
        return float(value)

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    head = arch.get("head_dim") or hidden / heads
    assert isinstance(head, int | float)
    attention = hidden * head * (2 * heads + 2 * number("num_key_value_heads", heads))
    block = attention + 3 * hidden * number("intermediate_size")
    embeddings = hidden * number("vocab_size") * (1 if arch.get("tie_word_embeddings", True) else 2)
    return embeddings + number("num_hidden_layers") * block


def _parameters(config: Config, arch: Mapping[str, object] | None) -> float:
    if arch is not None:
        return parameters_of(arch)
    if config.model.billions:
        return config.model.billions * 1e9
    raise ConfigError(f"model.path = {config.model.path!r} is not on this disk: give model.billions for the plan")


def _rank_gib(parameters: float, width: int, ranks: int, stage: int) -> float:
    whole = {0: 16, 1: 2 * width, 2: width, 3: 0}[stage]
    return parameters * (whole + (16 - whole) / ranks) / GIB


def check_context(config: Config, arch: Mapping[str, object] | None) -> None:
    """ConfigError when the model cannot read so many tokens. arch: its config.json, None when it is not known."""
    limit = arch.get("max_position_embeddings") if arch else None
    if isinstance(limit, int) and config.model.context > limit:
        raise ConfigError(f"model.context = {config.model.context} is over the model's own limit of {limit} tokens")


def _check_memory(config: Config, found: list[PlannedProcess], cache_gib: float) -> None:
    if config.cluster.device == "cpu":
        wanted, there = sum(p.gib * p.count for p in found), _ram_gib()
        if wanted > HEADROOM * there:
            biggest = max(found, key=lambda p: p.gib * p.count)
            raise ConfigError(
                f"{wanted:.1f} GiB are planned, this machine has {there:.1f}: the most for {biggest.count} x"
                f" {biggest.name} ({biggest.gib:.1f} each); use a smaller model, fewer ranks or rollout.kv_cache_mb"
            )
        return
    limit = _gpu_gib(config)
    if cache_gib <= 0:
        share = config.rollout.gpu_memory
        raise ConfigError(f"the weights alone fill rollout.gpu_memory = {share} of a GPU of {limit:.0f} GiB")
    for part in found:
        if part.gib > HEADROOM * limit:
            raise ConfigError(
                f"{part.name}: {part.gib:.1f} GiB a rank do not fit {limit:.0f} GiB (cluster.gpu_memory_gb); use more"
                " ranks, or a higher zero_stage"
            )


def _gpu_gib(config: Config) -> float:
    return config.cluster.gpu_memory_gb * 1e9 / GIB


def _ram_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
