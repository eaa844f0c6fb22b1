"""Where the actors of a run have a place: on GPUs that it holds, else wherever Ray finds room; and what is missing, in words.

what a run holds ─▶ reserve ─▶ [ bundles ] ◀── an actor with a GPU, while they have room
                               else any node ◀─ all others
"""

from collections.abc import Sequence
from typing import Any

from configs.schema import Config
from launch.cluster.capacity import Demand, capacity, free, gpus_of_nodes, places, shortage
from launch.cluster.reserved_gpus import ReservedGpus, bundles_of, one_shared_gpu
from launch.setup.gpu_blocks import Part

# Placement hint of an actor on a CPU cluster: many roles share few cores, so none may claim a whole one.
CPU_SHARE = 0.1
GPU_CPUS = 1  # beside each GPU


class ActorPlaces:
    """What each actor of a run asks for, and which of the held GPUs it has."""

    def __init__(self, config: Config, *, held: Sequence[Part], resource: str) -> None:
        """Reserves nothing yet.

        Args:
            config: The run's.
            held: What the run cannot begin without, on GPUs of its own.
            resource: The custom Ray resource that a rollout worker takes one of; "": none.
        """
        self._config, self._held, self._resource = config, held, resource
        sharing = 2 + config.meta_rm.enabled  # the engine, the learner with its reference, the meta-RM
        shared = one_shared_gpu(actors=sharing, cpus=CPU_SHARE, resource=resource)
        self._shared_gpu = shared if config.cluster.share_gpu else None
        self._reserved: ReservedGpus | None = None
        self._demands: dict[str, Demand] = {}  # of each actor, by its id

    def reserve(self) -> None:
        """Take what the run holds, when all of it is free. Errors as of `bundles_of` and `ReservedGpus.reserve`."""
        if self._shared_gpu is not None:
            self._reserved = ReservedGpus([self._shared_gpu[0]], is_shared=True)
        elif self._held and self._config.cluster.device == "cuda":
            self._reserved = ReservedGpus(bundles_of(self._held, cpus=GPU_CPUS, resource=self._resource))
        if self._reserved is not None:
            self._reserved.reserve(limit_s=self._config.waits.start_s)

    def release(self) -> None:
        """Let others have it. Harmless when repeated."""
        if self._reserved is not None:
            self._reserved.release()

    @property
    def held_gpus(self) -> int:
        """GPUs that are held, of the run's own: 0 on CPU, and where its parts share one."""
        is_held = self._config.cluster.device == "cuda" and self._shared_gpu is None
        return sum(part.count * part.gpus for part in self._held) if is_held else 0

    def drawing(self) -> list[str]:
        """Returns which node has which parts of the run, a line for each node; none where nothing is held."""
        return [] if self._reserved is None or self._shared_gpu is not None else self._reserved.drawing()

    # ---- actors --------------------------------------------------------------------------------------------------

    def demand(self, gpus: int, resource: str) -> Demand:
        """Returns what an actor asks for that takes so many GPUs, if there are any, and one of a custom resource; "": none."""
        on_gpu = gpus > 0 and self._config.cluster.device == "cuda"
        alone = {"CPU": GPU_CPUS * gpus if on_gpu else CPU_SHARE, "GPU": gpus if on_gpu else 0}
        share = self._shared_gpu[1] if self._shared_gpu and on_gpu else alone
        return dict(share) | ({resource: 1} if resource else {})

    def bundle(self, demand: Demand, part: str) -> int | None:
        """Returns the bundle of the held GPUs in which an actor has room; None: it is placed by Ray. `part` as of
        `ReservedGpus.room`."""
        return self._reserved.room(demand, part) if self._reserved is not None and demand["GPU"] else None

    def options(self, bundle: int | None) -> dict[str, Any]:
        """Returns the options of an actor that is made in a bundle, none for none."""
        return {} if self._reserved is None or bundle is None else self._reserved.options(bundle)

    def made(self, actor: str, demand: Demand, bundle: int | None) -> None:
        """Note an actor, by its id."""
        self._demands[actor] = demand
        if self._reserved is not None and bundle is not None:
            self._reserved.take(actor, bundle, demand)

    def ended(self, actor: str) -> None:
        """Note that an actor has ended."""
        del self._demands[actor]
        if self._reserved is not None:
            self._reserved.give_back(actor)

    # ---- room ----------------------------------------------------------------------------------------------------

    def places(self, demand: Demand) -> int:
        """Returns how many more actors of this demand have room beside those that there are. One of several GPUs has all of
        them on one node: two nodes with three each have room for two of two."""
        there = capacity() | ({} if self._shared_gpu is None else {"GPU": 1})
        found = places(demand, self._demands.values(), there)
        if demand["GPU"] <= 1:
            return found
        on_nodes = sum(gpus // int(demand["GPU"]) for gpus in gpus_of_nodes().possible)
        return min(found, max(0, on_nodes - sum(other["GPU"] > 1 for other in self._demands.values())))

    def shortage(self, demand: Demand) -> str:
        """Returns what actors of this demand ask for and what the cluster has of it, in words."""
        return shortage(demand, capacity(), free())

    def shortage_of(self, actor: str) -> str:
        """Returns the same for an actor, by its id."""
        return self.shortage(self._demands[actor])
