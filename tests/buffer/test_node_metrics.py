"""What nodes counted, on the real server: each has the texts of all others, and of none that is gone."""

import pytest
import redis

from buffer.connection import Address, ServerError
from buffer.node_metrics import NAME, STALE_S, NodeMetrics, connected_metrics
from buffer.server import EmbeddedServer
from buffer.streams import key


def test_a_node_reads_what_all_others_wrote_last(client: redis.Redis, address: Address) -> None:
    nodes = NodeMetrics(client, address.run_id)
    assert nodes.others("a") == {}
    for node, text in (("a", "one"), ("b", "two lines\nof text"), ("b", "votes 3\nof text"), ("gone", "old")):
        nodes.post(node, text)
    written, _, text = client.hget(key(address.run_id, NAME), "gone").decode().partition(" ")
    client.hset(key(address.run_id, NAME), "gone", f"{int(written) - int(STALE_S)} {text}")
    assert nodes.others("a") == {"b": "votes 3\nof text"}
    assert nodes.others("b") == {"a": "one"}


def test_the_servers_own_account_may_do_it(server: EmbeddedServer, address: Address) -> None:
    nodes = connected_metrics(Address(server.url_for("server"), address.run_id), timeout_s=5)
    nodes.post("a", "text")
    assert nodes.others("b") == {"a": "text"}
    with pytest.raises(ServerError):
        nodes._space.command("GET", key(address.run_id, "version"))
