"""What each node of a reward server counted, for whichever node is asked: a text of each, written every few seconds.

node A ─ post ─▶ {A: text, B: text} ─ others(B) ─▶ node B, which adds its own
"""

import redis

from buffer.connection import Address, Namespace, connect

NAME = "metrics-of-nodes"
STALE_S = 60.0  # a node that has written nothing for so long is gone, with what it counted


class NodeMetrics:
    """The texts of the nodes, on a Redis server. Thread-safe; calls block, and are repeated while the server restarts."""

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        """Takes a connection, as `connect` makes it, and the name of the server's keys."""
        self._space = Namespace(client, run_id)

    def post(self, node: str, text: str) -> None:
        """Writes a node's text, in place of the one before."""
        self._space.command("HSET", self._space.key(NAME), node, f"{self._now_s()} {text}")

    def others(self, node: str) -> dict[str, str]:
        """Returns {node: text} of all other nodes that wrote lately."""
        now, found = self._now_s(), {}
        row = self._space.command("HGETALL", self._space.key(NAME))
        for name, value in row.items() if isinstance(row, dict) else zip(row[::2], row[1::2], strict=True):
            written, _, text = value.decode().partition(" ")
            if name.decode() != node and now - int(written) < STALE_S:
                found[name.decode()] = text
        return found

    def _now_s(self) -> int:
        """The server's time, so that no two nodes have to agree on one."""
        return int(self._space.command("TIME")[0])


def connected_metrics(address: Address, *, timeout_s: float) -> NodeMetrics:
    """Returns the texts at an address. ServerError when its server cannot be used."""
    return NodeMetrics(connect(address, timeout_s=timeout_s), address.run_id)
