"""One GPU for all actors of a run that ask for one: a placement group of one bundle, in which each takes a share of the card.

    reserve ─▶ {GPU: 1, CPU: …} on one node ─▶ actor ─▶ 1/n of that bundle's GPU, never of another's ─▶ release

Fractions alone would not do: Ray places each actor by itself, so a second run on a cluster with two cards could leave half of
each of them to either. A bundle's GPU is one card (Ray splits only whole ones off), so nobody else gets a share of it.
"""

from typing import Any

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

GRAIN = 10_000  # Ray counts resources in steps of 1/10,000


class SharedGpu:
    """The GPU of a run. It is released when the driver ends, if not before."""

    def __init__(self, *, actors: int, cpus: float, resource: str) -> None:
        """Reserves nothing yet.

        Args:
            actors: Those that live at a time, at most.
            cpus: CPUs of each.
            resource: The custom Ray resource that one of them takes; "": none.
        """
        self._share = (GRAIN // actors) / GRAIN
        self._cpus, self._actors, self._resource = cpus, actors, resource
        self._group: PlacementGroup | None = None

    @property
    def demand(self) -> dict[str, float]:
        """What an actor asks for."""
        return {"CPU": self._cpus, "GPU": self._share}

    def reserve(self, *, limit_s: float) -> None:
        """Wait for a GPU that nobody uses. TimeoutError when there is none within `limit_s`."""
        bundle = {"GPU": 1.0, "CPU": self._cpus * self._actors} | ({self._resource: 1.0} if self._resource else {})
        self._group = placement_group([bundle], strategy="STRICT_PACK")
        if not self._group.wait(timeout_seconds=limit_s):
            self.release()
            asked = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
            raise TimeoutError(
                f"the driver waited {limit_s:.0f} s for a GPU to share (waits.start_s): no node of the cluster has {asked} free"
                " at a time; end what uses them, or start Ray on a node with a GPU"
            )

    def options(self) -> dict[str, Any]:
        """Returns the options of an actor that puts it on this GPU."""
        assert self._group is not None  # reserved before any actor is made
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)
        return {"scheduling_strategy": strategy}

    def release(self) -> None:
        """Let others have the GPU; actors on it end. Harmless when repeated."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None
