"""Which actors of a stage count as dead: those that are silent, and those that do not get ready.

last heartbeats ─▶ READY, DRAINING: silent for `waits.heartbeat_s`  ─┐
                   MAKING: placed, not ready for `waits.start_s`    ─┴▶ their actors are ended: calls fail with ActorLost
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from buffer.heartbeat import LastHeartbeat
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.ray_cluster import Cluster

LOOK_S = 2.0  # between two looks


class ActorWatch:
    """Ends the actors of groups that count as dead. Somebody else replaces them."""

    def __init__(self, cluster: Cluster, config: Config) -> None:
        """Begins with nobody watched."""
        self._cluster, self._config = cluster, config
        self._looked = self._grace_until = time.monotonic()
        self._making: dict[ActorGroup, tuple[list[Any], float]] = {}  # the calls that it starts with; since when it is placed

    def begin(self) -> None:
        """The actors have just been made: that nobody has looked until now is no outage."""
        self._looked = time.monotonic()

    def look(self, groups: Sequence[ActorGroup], read: Callable[[], Mapping[str, LastHeartbeat]]) -> None:
        """Look at the groups, every few seconds at most.

        After an outage of the server, or of the driver, all have `waits.heartbeat_s` to send a heartbeat again.

        Args:
            groups: Those that are watched.
            read: Reads the last heartbeat of each process, by name.
        """
        looked, now = self._looked, time.monotonic()
        if now - looked < LOOK_S:
            return
        self._looked = now
        self._end_late(groups, now)
        last = read()
        now = time.monotonic()
        own = last.get("driver")  # missing where the server came back empty
        if own is None or self._was_away(own, now - looked):
            self._grace_until = now + self._config.waits.heartbeat_s
        if own is not None and now >= self._grace_until:
            self._end_silent(groups, last, own)

    def _end_silent(self, groups: Sequence[ActorGroup], last: Mapping[str, LastHeartbeat], own: LastHeartbeat) -> None:
        for group in groups:
            ready = group.state in (State.READY, State.DRAINING)
            ages = [last[member].age_s - own.age_s for member in group.members if member in last]
            if ready and max(ages, default=0.0) > self._config.waits.heartbeat_s:
                self._cluster.end(group.actors)

    def _end_late(self, groups: Sequence[ActorGroup], now: float) -> None:
        """A group that waits for its place in the cluster, as for a node that an autoscaler adds, is not late."""
        before, self._making = self._making, {}
        for group in groups:
            if group.state is not State.MAKING:
                continue
            starting, since = before.get(group, ([], now))
            if starting is not group.ready_calls:
                if not self._cluster.are_placed(group.actors):
                    continue
                since = now
            self._making[group] = (group.ready_calls, since)
            if now - since > self._config.waits.start_s:
                self._cluster.end(group.actors)

    def _was_away(self, own: LastHeartbeat, since_last_look_s: float) -> bool:
        """Returns whether the server may have been away: then all heartbeats are old, and the driver's may come back first.

        An outage of two intervals is harmless: no heartbeat is then older than three, and silence counts from four on.
        """
        interval_s = self._config.heartbeat_interval_s
        return own.age_s > 2 * interval_s or since_last_look_s > max(2 * interval_s, 3 * LOOK_S)
