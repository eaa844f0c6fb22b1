"""What a run takes of the machine's own memory beside its processes: copies of the weights, and optimisers. Pure arithmetic.

    published     w T                  the copy that the learner publishes from, page-locked beside a GPU, and kept
    store         VERSIONS w T         versions in Ray's object store, which is shared memory
    saved         w T + w M            the models that the newest checkpoints are written from, the meta-RM's M whole
    pulled        w P each             for engines of several processes: a pull, as a file in memory that all of them read
    optimisers    12 or 16 a number    where they are offloaded from a GPU; page-locked
    states        16 T a learner       of both learners, copied for a checkpoint that is written while training goes on: only
                  at ZeRO < 3 20 T     where twice as much is free, else training waits

T: what is trained and published, all P parameters of the policy or the numbers of its adapters; w bytes a weight. On one
machine all of it is there; of several nodes, the learner's rank 0 has what is published and saved, each with engines a store.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.environment import variable
from launch.setup.memory_plan import GB, WIDTHS
from launch.setup.model_shape import ModelShape
from launch.setup.object_store import VERSIONS

STATE = 16  # bytes of a trained number in a checkpoint's states, at most (`learner.deepspeed_engine.STATE_BYTES`)
SAID = GB / 20  # what is less is not said
MODULE = 4  # beside them at ZeRO 0 to 2, where rank 0 has the weights whole


@dataclass(frozen=True, kw_only=True, slots=True)
class HostMemory:
    """Bytes of the machine's own memory, by what they are for."""

    published: float
    """The copy that is published from."""
    store: float
    """Ray's object store."""
    saved: float
    """Models on their way into a checkpoint."""
    pulled: float
    """Pulls of engines of several processes."""
    optimisers: float
    """Offloaded from GPUs."""
    states: float
    """Copies of the learners' states while a checkpoint is written; made only where there is room."""

    @property
    def needed(self) -> float:
        """What a run does not go without."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """Returns what that is made of."""
        named = {
            "object store": self.store,
            "published copy": self.published,
            "checkpoints' models": self.saved,
            "pulls": self.pulled,
            "optimisers": self.optimisers,
        }
        return {name: size for name, size in named.items() if size}


def host_memory(config: Config, *, policy: ModelShape, meta_rm: ModelShape | None, optimisers: float) -> HostMemory:
    """Returns what a run takes of the machine's own memory beside its processes, in online RL.

    Args:
        config: The run's.
        policy: The policy's shape.
        meta_rm: The meta-RM's; None without one.
        optimisers: Bytes that are offloaded.
    """
    width, rank, r = WIDTHS[config.dtype], config.learner.lora_rank, config.rollout
    trained = rank * policy.linear or policy.parameters
    learners = [(trained, config.learner.ranks, config.learner.zero_stage)]
    if meta_rm is not None:
        learners.append((rank * meta_rm.linear or meta_rm.parameters, config.meta_rm.ranks, config.meta_rm.zero_stage))
    return HostMemory(
        published=width * trained,
        store=VERSIONS * width * trained,
        saved=width * (trained + (meta_rm.parameters if meta_rm is not None else 0.0)),
        pulled=width * policy.parameters * r.workers if r.tensor_parallel > 1 else 0.0,
        optimisers=optimisers,
        states=sum(
            count * ((MODULE if stage < 3 else 0) + STATE * (1 if stage else ranks)) for count, ranks, stage in learners
        ),
    )


def check_host_memory(config: Config, memory: HostMemory, machine: float) -> None:
    """ConfigError when the machine does not hold what its run on GPUs takes. Of a cluster's nodes nobody knows it; on CPU all
    processes are in the same memory, and the plan counts them together.

    Args:
        config: The run's.
        memory: What it takes.
        machine: Bytes of this machine.
    """
    joins = config.cluster.address != "auto" or variable("RAY_ADDRESS")
    if config.cluster.device == "cpu" or joins or memory.needed <= machine:
        return
    raise ConfigError(
        f"this machine has {machine / GB:.1f} GB of memory, and the run takes {memory.needed / GB:.1f} beside its processes"
        f" ({_words(memory.parts())}): use a machine with more, a smaller model, or learner.lora_rank, with which"
        " adapters alone are published"
    )


def described_host(config: Config, memory: HostMemory) -> str:
    """Returns what it takes, in words, for the plan."""
    if memory.needed < SAID:
        return "next to nothing of the machine's memory beside the processes"
    where = "of the nodes' memory" if config.cluster.address != "auto" else "of the machine's memory"
    text = f"{memory.needed / GB:.1f} GB {where} beside the processes ({_words(memory.parts())})"
    return f"{text}, up to {memory.states / GB:.1f} more while checkpoints are written, where twice as much is free"


def _words(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {size / GB:.1f}" for name, size in parts.items() if size >= SAID)
