"""Which actor groups of a stage wait for a place in the cluster, what they wait for, and how many rollout workers have one."""

from collections.abc import Callable, Iterable

from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.ray_cluster import Cluster


class Placement:
    """The places of a stage's groups."""

    def __init__(self, cluster: Cluster, *, gpus: int, resource: str, note: Callable[[str], None]) -> None:
        """Args:
        cluster: Where they run.
        gpus: GPUs that a rollout worker takes, if there are any.
        resource: The custom Ray resource that a rollout worker takes one of; "": none.
        note: Gets a log line when fewer rollout workers begin than should.
        """
        self._cluster, self._gpus, self._resource, self._note = cluster, gpus, resource, note

    def placeable(self, wanted: int) -> int:
        """Returns how many rollout workers a stage begins with: those that have a place beside its other actors. The rollout
        target may have been set, or the run begun, when the cluster was larger; the rest is tried again while it goes on."""
        fitting = max(1, self._cluster.places(gpus=self._gpus, resource=self._resource))
        if fitting < wanted:
            missing = self._cluster.shortage(gpus=self._gpus, resource=self._resource)
            self._note(f"rollout workers: {wanted} should run, {fitting} have a place: {missing}")
        return min(wanted, fitting)

    def is_unplaced(self, group: ActorGroup) -> bool:
        """Returns whether it waits for a place."""
        return group.state is State.MAKING and not self._cluster.are_placed(group.actors)

    def unplaced_text(self, groups: Iterable[ActorGroup]) -> str:
        """Returns who of the groups waits for a place, and what is missing, with a separator; "" when nobody does."""
        waiting = [group for group in groups if self.is_unplaced(group)]
        if not waiting:
            return ""
        names = ", ".join(name for group in waiting for name in group.members)
        return f"; no place in the cluster for {names}: {self._cluster.shortage_of(waiting[0].actors[0])}"
