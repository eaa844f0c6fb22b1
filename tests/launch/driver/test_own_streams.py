"""One driver for a run on a server of the user's: the next one goes on when the one before has left, or is silent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from buffer.heartbeat import HEARTBEATS, Heartbeat, last_heartbeats
from buffer.server import EmbeddedServer
from buffer.streams import Address, connect, key
from configs.load import ConfigError, load
from configs.schema import Config
from launch.cluster.ray_cluster import Cluster
from launch.driver.own_streams import require_own_streams

SILENT_S = 2.0


def config_of(url: str) -> Config:
    return load("tiny", [f"redis.url={url}", f"waits.heartbeat_s={SILENT_S}"])


@pytest.fixture
def shown() -> list[str]:
    return []


@contextmanager
def driving(address: Address, *, every_s: float = 0.1) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(address, "driver", every_s=every_s, hang_s=60.0)
    yield heartbeat
    heartbeat.stop()


def go_on(address: Address, folder: Path, shown: list[str]) -> None:
    def show(text: str, *, done: int = 0, total: int = 0) -> None:
        shown.append(text)

    require_own_streams(config_of(address.url), address, folder, continued=True, show=show)


def left_by(cluster: Cluster, address: Address) -> Heartbeat:
    """Leave a cluster as a stopped run does. Returns the heartbeat of its driver."""

    def run() -> None:
        nonlocal heartbeat
        with cluster:
            heartbeat = Heartbeat(address, "driver", every_s=30.0, hang_s=60.0)
            cluster.stop_last(heartbeat)
            raise KeyboardInterrupt

    heartbeat: Heartbeat
    with pytest.raises(KeyboardInterrupt):
        run()
    return heartbeat


@pytest.fixture
def cluster(address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """That of a run on a server of the user's, without Ray."""
    monkeypatch.setattr(Cluster, "_join_ray", lambda self: None)
    return Cluster(config_of(address.url), run_id=address.run_id, folder=tmp_path, model="", gpus=0)


@pytest.mark.usefixtures("client")
def test_beside_a_driver_that_is_alive_no_other_goes_on(address: Address, tmp_path: Path, shown: list[str]) -> None:
    with driving(address), pytest.raises(ConfigError, match=r"goes on under another driver, process \d+ on"):
        go_on(address, tmp_path, shown)


@pytest.mark.usefixtures("client")
def test_that_of_the_cold_start_counts_as_well(address: Address, tmp_path: Path, shown: list[str]) -> None:
    stage = Address(address.url, f"{address.run_id}.cold-start")
    with driving(stage), pytest.raises(ConfigError, match="under another driver"):
        go_on(address, tmp_path, shown)


def test_a_driver_that_was_killed_is_waited_for_until_it_is_silent(
    client: redis.Redis, address: Address, tmp_path: Path, shown: list[str]
) -> None:
    with driving(address):
        (last,) = client.hvals(key(address.run_id, HEARTBEATS))
    client.hset(key(address.run_id, HEARTBEATS), "driver", last)  # as it lies there after kill -9
    go_on(address, tmp_path, shown)
    assert last_heartbeats(client, address.run_id)["driver"].age_s >= SILENT_S
    assert set(shown) == {"waiting up to 2 s for a heartbeat of the driver before"}


def test_a_run_that_was_stopped_goes_on_at_once(
    client: redis.Redis,
    address: Address,
    cluster: Cluster,
    tmp_path: Path,
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed, close = list[bool](), cluster.close

    def close_and_look() -> None:
        close()
        closed.append("driver" in last_heartbeats(client, address.run_id))

    monkeypatch.setattr(cluster, "close", close_and_look)
    left_by(cluster, address)
    assert closed == [True], "not before every process has ended"
    assert last_heartbeats(client, address.run_id) == {}
    go_on(address, tmp_path, shown)
    assert shown == []


def test_a_driver_that_stops_late_removes_no_heartbeat_but_its_own(
    client: redis.Redis, address: Address, tmp_path: Path, shown: list[str]
) -> None:
    """It was stopped (SIGSTOP) for so long that another one has gone on with the run."""
    with driving(address, every_s=30.0):
        other = Heartbeat(address, "driver", every_s=0.1, hang_s=60.0)
    assert list(last_heartbeats(client, address.run_id)) == ["driver"]
    with pytest.raises(ConfigError, match="under another driver"):
        go_on(address, tmp_path, shown)
    other.stop()
    assert last_heartbeats(client, address.run_id) == {}
    other.stop()  # harmless


def test_a_server_that_is_gone_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "_join_ray", lambda self: None)
    server = EmbeddedServer(tmp_path / "redis")
    address = Address(server.start(), "gone")
    cluster = Cluster(config_of(address.url), run_id="gone", folder=tmp_path, model="", gpus=0)
    close = cluster.close

    def close_and_stop_server() -> None:
        close()
        server.stop()

    monkeypatch.setattr(cluster, "close", close_and_stop_server)
    began = time.monotonic()
    left_by(cluster, address)
    assert time.monotonic() - began < 15, "the retries of a client take 17 s"


def test_what_is_temporary_leaves_no_key(address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "_join_ray", lambda self: None)
    cluster = Cluster(config_of(address.url), run_id=address.run_id, folder=tmp_path, model="", gpus=0, temporary=True)
    heartbeat = left_by(cluster, address)
    assert not heartbeat._thread.is_alive()
    with connect(address) as client:
        assert not client.exists(key(address.run_id, HEARTBEATS))
