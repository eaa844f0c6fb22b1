"""What a run will need: processes, devices, memory, steps. Refuses what cannot fit.

Memory of a rank with P parameters and W ranks, by ZeRO stage (weights + gradients + AdamW's master copy and moments):

    bytes(0) = 16 P    bytes(1) = wg P + (16 - wg) P / W    bytes(2) = w P + (16 - w) P / W    bytes(3) = 16 P / W

with w = 4, wg = 8 in float32 and w = 2, wg = 4 in bfloat16; the policy's ranks hold the reference as well: w P, or
w P / W at stage 3. Activations come on top.

Published weights travel through Ray's object store, which lies in shared memory (/dev/shm):

    bytes(store) = VERSIONS w P + STORE_MARGIN
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.environment import variable
from launch.setup.model_files import architecture, resolve

GIB = 1 << 30
PROCESS_GIB = 0.7  # interpreter, libraries and buffers of one actor, as measured
CUDA_GIB = 1.5  # a CUDA context and its workspaces
HEADROOM = 0.95  # share of a device that may be planned for
# Versions of the weights that live at a time: the one that the learner is publishing, the newest on the weight board, and an
# older one that a slow worker is still loading. The usual two of three stay below the 80 % from which Ray spills to disk.
VERSIONS = 3
STORE_MARGIN = 256 << 20  # bytes of the object store for what travels with calls
# Where a config.json says how many tokens the model can read: most models, GPT-2, MPT, ChatGLM, and others.
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length")
SHARED_MEMORY = "/dev/shm"
SLOW_STORE_BYTES = 10**10  # a store that shared memory does not hold: up to here Ray uses the disk instead, above it refuses


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedProcess:
    """One kind of process."""

    name: str
    """What it is, in words."""
    count: int
    """Processes of this kind, at least 1."""
    gib: float
    """GiB planned for each, on its device."""
    note: str
    """What the memory is for, "" when there is nothing to add."""


def gpus_needed(config: Config) -> int:
    """Returns how many GPUs the run takes at a time, one a process."""
    meta = config.meta_rm.ranks if config.meta_rm.enabled else 0
    return config.rollout.workers + config.learner.ranks + meta


def parameters(config: Config, model: str, *, scalar_head: bool = False) -> float:
    """Returns the parameters of a model, from its config.json or else `model.billions`. ConfigError when neither is there.

    Args:
        config: The run's.
        model: Folder or hub name.
        scalar_head: Whether it is the meta-RM that is made of it.
    """
    arch = architecture(model)
    if arch is not None:
        return parameters_of(arch, scalar_head=scalar_head)
    if config.model.billions:
        return config.model.billions * 1e9
    raise ConfigError(f"model.path = {config.model.path!r} is not on this disk: give model.billions for the plan")


def object_store_bytes(config: Config, model: str) -> int:
    """Returns the size of Ray's object store.

    Args:
        config: Its dtype is that of the published weights.
        model: The policy's folder or hub name; "" when no weights are published, as in an evaluation.
    """
    published = _width(config) * parameters(config, model) if model else 0.0
    return STORE_MARGIN + int(VERSIONS * published)


def check_object_store(config: Config, model: str) -> None:
    """ConfigError when a Ray of our own cannot be started because shared memory is far too small for its object store."""
    need, free = object_store_bytes(config, model), _shared_memory_free(config)
    if free is not None and need > free and need > SLOW_STORE_BYTES and not variable("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"):
        raise ConfigError(
            f"Ray's object store needs {need / GIB:.1f} GiB of shared memory for {VERSIONS} versions of the weights,"
            f" {SHARED_MEMORY} has {free / GIB:.1f} free: {_remedy(need)}, or join a Ray cluster (cluster.address)"
        )


def planned_processes(config: Config, model: str) -> list[PlannedProcess]:
    """Returns the processes of the run with their planned memory. ConfigError when one cannot fit its device."""
    check_context(config, architecture(model))
    count, width = parameters(config, model), _width(config)
    cpu = config.cluster.device == "cpu"
    fixed = PROCESS_GIB if cpu else CUDA_GIB
    weights = width * count / GIB
    cache = config.rollout.kv_cache_mb / 1024 if cpu else _gpu_gib(config) * config.rollout.gpu_memory - weights - fixed
    learner, meta = config.learner, config.meta_rm
    reference = weights / (learner.ranks if learner.zero_stage == 3 else 1) if config.grpo.beta > 0 else 0.0
    processes = [
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
        processes.append(
            PlannedProcess(
                name=f"meta-RM learner (DeepSpeed ZeRO {meta.zero_stage})",
                count=meta.ranks,
                gib=_rank_gib(parameters(config, model, scalar_head=True), width, meta.ranks, meta.zero_stage) + fixed,
                note="",
            )
        )
    _check_memory(config, processes, cache)
    return processes


def describe(config: Config, processes: Sequence[PlannedProcess]) -> str:
    """Returns the plan as text, for `--dry-run` and the head of a run."""
    g, r = config.grpo, config.rollout
    device = (
        f"{os.cpu_count()} CPU cores, {_ram_gib():.0f} GiB"
        if config.cluster.device == "cpu"
        else f"{gpus_needed(config)} GPUs of {config.cluster.gpu_memory_gb:.0f} GB, one a process"
    )
    lines = [f"device     {device}, {config.dtype}"]
    lines += [f"process    {p.count} x {p.name}: {p.gib:.1f} GiB each{f' ({p.note})' if p.note else ''}" for p in processes]
    lines += [
        f"memory     {sum(p.gib * p.count for p in processes):.1f} GiB planned in all, activations on top",
        f"store      {_described_store(config)}",
        f"steps      {g.steps} optimiser steps x {g.batch_groups} groups x {r.samples} completions"
        f" = {g.steps * g.batch_groups * r.samples:,} completions trained, up to"
        f" {g.steps * g.batch_groups * r.samples * r.max_new_tokens:,} tokens",
        f"staleness  at most {g.max_staleness} ({g.stale}): {config.credit} groups outstanding; near"
        f" {g.max_staleness} when the learner is the slower side, near 0 when the rollouts are",
        f"lengths    prompt <= {config.max_prompt_tokens}, completion <= {r.max_new_tokens} tokens",
        f"data       train {', '.join(config.data.train)}; held out {', '.join(config.data.heldout)}",
    ]
    return "\n".join(lines)


def _described_store(config: Config) -> str:
    need, free = object_store_bytes(config, resolve(config.model.path)), _shared_memory_free(config)
    text = f"{need / GIB:.1f} GiB of shared memory for {VERSIONS} versions of the weights"
    if free is None or need <= free:
        return text
    result = "Ray would keep them on disk, which is slow" if need <= SLOW_STORE_BYTES else "Ray would not start here"
    return f"{text}; {SHARED_MEMORY} has {free / GIB:.1f} free, so {result}: {_remedy(need)}"


def _remedy(need: int) -> str:
    return (
        f"enlarge it (docker run --shm-size={need / GIB + 1:.0f}g; mount -o remount,size={need / GIB + 1:.0f}G {SHARED_MEMORY})"
    )


def _shared_memory_free(config: Config) -> int | None:
    """Bytes free for the object store of a Ray of our own; None when we join a cluster, or on systems without /dev/shm."""
    if config.cluster.address != "auto" or variable("RAY_ADDRESS") or not os.path.isdir(SHARED_MEMORY):
        return None
    return shutil.disk_usage(SHARED_MEMORY).free


def parameters_of(arch: Mapping[str, object], *, scalar_head: bool = False) -> float:
    """Returns the parameters of the model with this config.json, as transformers builds it: from shapes, without memory.

    It imports torch and the model's code.

    Args:
        arch: The config.json.
        scalar_head: Whether the model has a scalar head, as the meta-RM, in place of that of a language model.

    Raises:
        ConfigError: transformers knows no such model of this kind.
    """
    return _count(json.dumps(arch, sort_keys=True), scalar_head)


@lru_cache
def _count(config_json: str, scalar_head: bool) -> float:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    fields = json.loads(config_json)
    kind = fields.pop("model_type", None)
    made_by = AutoModelForSequenceClassification if scalar_head else AutoModelForCausalLM
    try:
        config = AutoConfig.for_model(kind, **fields)
        config.num_labels = 1
        with torch.device("meta"):
            model = made_by.from_config(config, attn_implementation="eager", trust_remote_code=False)
    except Exception as error:  # of any kind: it is another model's code for each architecture
        what = "model with a scalar head, so no meta-RM (set meta_rm.enabled=false)" if scalar_head else "causal language model"
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the model's config.json (model_type {kind!r}) makes no {what}: {why}") from error
    return float(sum(parameter.numel() for parameter in model.parameters()))


def _width(config: Config) -> int:
    """Bytes of a weight."""
    return 4 if config.dtype == "float32" else 2


def _rank_gib(count: float, width: int, ranks: int, stage: int) -> float:
    """GiB of a rank that trains `count` parameters, as drawn above."""
    whole = {0: 16, 1: 2 * width, 2: width, 3: 0}[stage]
    return count * (whole + (16 - whole) / ranks) / GIB


def check_context(config: Config, arch: Mapping[str, object] | None) -> None:
    """ConfigError when the model cannot read so many tokens. `arch` is its config.json, None when that is not known."""
    limit = context_limit(arch or {})
    if limit is not None and config.model.context > limit:
        raise ConfigError(f"model.context = {config.model.context} is over the model's own limit of {limit} tokens")


def context_limit(arch: Mapping[str, object]) -> int | None:
    """Returns how many tokens a model reads at most, from its config.json; None when that does not say.

    A model that also reads images keeps it in `text_config`. Of several names the smallest counts, as in vLLM.
    """
    text = arch.get("text_config")
    fields = {**arch, **text} if isinstance(text, Mapping) else arch
    limits = [value for name in CONTEXT_NAMES if isinstance(value := fields.get(name), int)]
    rope = fields.get("rope_scaling") or fields.get("rope_parameters")
    scaling = rope if isinstance(rope, Mapping) else {}
    # The others are in the limit already, and so is Gemma-3's.
    stretched = scaling.get("rope_type", scaling.get("type")) in ("linear", "dynamic") and "gemma3" not in str(arch)
    factor = scaling.get("factor") if stretched else 1
    return int(min(limits) * factor) if limits and isinstance(factor, int | float) else min(limits, default=None)


def _check_memory(config: Config, processes: Sequence[PlannedProcess], cache_gib: float) -> None:
    if config.cluster.device == "cpu":
        planned, there = sum(p.gib * p.count for p in processes), _ram_gib()
        if planned > HEADROOM * there:
            biggest = max(processes, key=lambda p: p.gib * p.count)
            raise ConfigError(
                f"{planned:.1f} GiB are planned, this machine has {there:.1f}: the most for {biggest.count} x"
                f" {biggest.name} ({biggest.gib:.1f} each); use a smaller model, fewer ranks or rollout.kv_cache_mb"
            )
        return
    limit = _gpu_gib(config)
    if cache_gib <= 0:
        share = config.rollout.gpu_memory
        raise ConfigError(f"the weights alone fill rollout.gpu_memory = {share} of a GPU of {limit:.0f} GiB")
    for process in processes:
        if process.gib > HEADROOM * limit:
            raise ConfigError(
                f"{process.name}: {process.gib:.1f} GiB a rank do not fit {limit:.0f} GiB (cluster.gpu_memory_gb); use more"
                " ranks, or a higher zero_stage"
            )


def _gpu_gib(config: Config) -> float:
    return config.cluster.gpu_memory_gb * 1e9 / GIB


def _ram_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
