"""The processes of a run with the memory of each, and the first place where they do not fit: pure functions of shapes.

On CPU all processes share the machine's memory, with `cluster.share_gpu` those of the GPU share its memory; else each has a
GPU of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.schema import Config
from launch.setup import memory_plan
from launch.setup.host_memory import HostMemory, host_memory
from launch.setup.memory_plan import GB, WIDTHS, EngineMemory, Training, kv_token_bytes
from launch.setup.model_shape import ModelShape
from launch.setup.time_plan import assumed_lengths

HEADROOM = 0.95  # share of a device that may be planned for
REWARD = 0.3 * GB  # the reward actor, which has no model


@dataclass(frozen=True, kw_only=True, slots=True)
class Shapes:
    """The models of a run."""

    policy: ModelShape
    """The policy, which is also the reference."""
    meta_rm: ModelShape | None
    """The same with a scalar head; None without a meta-RM."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedProcess:
    """One kind of process."""

    name: str
    """What it is, in words."""
    count: int
    """Processes of this kind, at least 1."""
    parts: Mapping[str, float]
    """Bytes of each at its peak, by what they are for."""
    on_device: bool = True
    """Whether its memory is the GPU's, where there is one."""
    host: float = 0.0
    """Bytes of the machine's own memory that it takes beside those."""

    @property
    def size(self) -> float:
        """Bytes of each at its peak."""
        return sum(self.parts.values())

    def describe(self) -> str:
        """Returns the parts in words, without those below a tenth of a GB."""
        return ", ".join(f"{name} {size / GB:.1f}" for name, size in self.parts.items() if size >= GB / 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overfull:
    """A device that does not hold what is planned on it."""

    what: str
    """The processes, in words."""
    parts: str
    """What they need it for."""
    needed: float
    """Bytes planned."""
    there: float
    """Bytes that may be planned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheRoom:
    """What the KV cache of an engine holds."""

    tokens: int
    """Tokens, of all sequences together."""
    groups: int
    """Groups of the assumed lengths, in the middle of their completions."""


def gpu_bytes(config: Config) -> float:
    """Returns the memory of a GPU."""
    return config.cluster.gpu_memory_gb * GB


def engine_memory(config: Config, policy: ModelShape) -> EngineMemory:
    """Returns the memory of an engine; on GPUs of its own, of each of them."""
    width, cuda, r = WIDTHS[config.dtype], config.cluster.device == "cuda", config.rollout
    rank = config.learner.lora_rank
    if config.kv_cache_bytes is None:
        return memory_plan.engine_alone(
            policy, width=width, gpu=gpu_bytes(config), share=r.gpu_memory, gpus=r.tensor_parallel, lora_rank=rank
        )
    return memory_plan.shared_engine(policy, width=width, kv_cache=config.kv_cache_bytes, cuda=cuda, lora_rank=rank)


def engine_cache(config: Config, policy: ModelShape) -> float:
    """Returns the bytes of an engine's KV cache, on all of its GPUs together."""
    return engine_memory(config, policy).kv_cache * (config.rollout.tensor_parallel if config.kv_cache_bytes is None else 1)


def cache_room(config: Config, policy: ModelShape) -> CacheRoom:
    """Returns what the KV cache of an engine holds."""
    tokens = engine_cache(config, policy) / kv_token_bytes(policy, WIDTHS[config.dtype])
    return CacheRoom(tokens=int(tokens), groups=int(tokens / assumed_lengths(config).in_flight(config)))


def processes_of(config: Config, shapes: Shapes) -> list[PlannedProcess]:
    """Returns the processes of online RL, in which most run at a time."""
    learner, meta = config.learner, config.meta_rm
    policy = memory_plan.policy_rank(
        shapes.policy,
        _training(config, learner.ranks, learner.zero_stage, learner.micro_tokens),
        reference=config.grpo.beta > 0,
    )
    processes = [
        _engines(config, shapes.policy),
        PlannedProcess(name="reward actor", count=1, parts={"on CPU": REWARD}, on_device=False),
        PlannedProcess(
            name=f"GRPO learner (DeepSpeed ZeRO {learner.zero_stage})",
            count=learner.ranks,
            parts=policy.parts(),
            host=policy.host,
        ),
    ]
    if shapes.meta_rm is not None:
        rank = memory_plan.classifier_rank(shapes.meta_rm, _training(config, meta.ranks, meta.zero_stage, meta.micro_tokens))
        processes.append(
            PlannedProcess(
                name=f"meta-RM learner (DeepSpeed ZeRO {meta.zero_stage})",
                count=meta.ranks,
                parts=rank.parts(),
                host=rank.host,
            )
        )
    return processes


def host_of(config: Config, shapes: Shapes) -> HostMemory:
    """Returns what the run takes of the machine's own memory beside these processes."""
    offloaded = sum(process.host * process.count for process in processes_of(config, shapes))
    return host_memory(config, policy=shapes.policy, meta_rm=shapes.meta_rm, optimisers=offloaded)


def _engines(config: Config, policy: ModelShape) -> PlannedProcess:
    """All engines: one process each, or on GPUs of its own one a GPU."""
    memory, workers, cut = engine_memory(config, policy), config.rollout.workers, config.rollout.tensor_parallel
    if cut == 1 or config.kv_cache_bytes is not None:
        extra = {"its processes": cut * memory_plan.PROCESS + (cut - 1) * memory.kv_cache} if cut > 1 else {}
        return PlannedProcess(name="rollout actor (vLLM)", count=workers, parts=memory.parts() | extra)
    return PlannedProcess(name=f"process of a rollout actor (vLLM, {cut} each)", count=workers * cut, parts=memory.parts())


def _training(config: Config, ranks: int, zero_stage: int, micro_tokens: int) -> Training:
    return Training(
        ranks=ranks,
        zero_stage=zero_stage,
        micro_tokens=micro_tokens,
        checkpointing=config.learner.gradient_checkpointing,
        width=WIDTHS[config.dtype],
        cuda=config.cluster.device == "cuda",
        offload=config.learner.optimizer_offload,
        lora_rank=config.learner.lora_rank,
    )


def overfull(config: Config, shapes: Shapes, *, machine: float) -> Overfull | None:
    """Returns the first device that does not hold what is planned on it; None where all do.

    Args:
        config: The run's.
        shapes: Its models.
        machine: Bytes of this machine's own memory: on CPU all is in it, on its GPUs the optimisers that are offloaded. (Of a
            cluster's nodes it is not known.)
    """
    processes, cuda = processes_of(config, shapes), config.cluster.device == "cuda"
    least: float = config.model.context * kv_token_bytes(shapes.policy, WIDTHS[config.dtype])  # else vLLM does not start
    engine = engine_memory(config, shapes.policy)
    if engine_cache(config, shapes.policy) < least:
        least /= config.rollout.tensor_parallel if config.kv_cache_bytes is None else 1
        weights = engine.weights + engine.packed + engine.adapters
        parts = f"weights {weights / GB:.1f}, runtime {engine.runtime / GB:.1f}, KV cache of one sequence {least / GB:.1f}"
        needed, there = weights + engine.runtime + least, engine.peak
        return Overfull(what="rollout actor (vLLM)", parts=parts, needed=needed, there=there)
    host = host_of(config, shapes)
    offloaded = host.optimisers
    if config.cluster.address == "auto" and offloaded > HEADROOM * machine:
        what, parts = "the optimisers in this machine's memory", "learner.optimizer_offload"
        return Overfull(what=what, parts=parts, needed=offloaded, there=HEADROOM * machine)
    if cuda and not config.cluster.share_gpu:
        limit = HEADROOM * gpu_bytes(config)
        for process in processes[1:]:  # an engine takes its share, as above
            if process.on_device and process.size > limit:
                what = f"{process.name}, each rank"
                return Overfull(what=what, parts=process.describe(), needed=process.size, there=limit)
        return None
    together = [p for p in processes if p.on_device or not cuda]
    limit = HEADROOM * (gpu_bytes(config) if cuda else machine)
    ways = 0.0 if cuda else host.needed
    needed = sum(p.size * p.count for p in together) + ways
    if needed <= limit:
        return None
    what = "all processes on one GPU" if cuda else "all processes on this machine"
    parts = _most(together) + (f"; weights on their way {ways / GB:.1f}" if ways else "")
    return Overfull(what=what, parts=parts, needed=needed, there=limit)


def _most(processes: Sequence[PlannedProcess]) -> str:
    """What each of some kinds takes, the largest first."""
    largest = sorted(processes, key=lambda p: -p.size * p.count)
    return "; ".join(f"{p.count} x {p.name} {p.size / GB:.1f} ({p.describe()})" for p in largest)
