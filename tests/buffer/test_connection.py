"""Connections: whatever goes wrong, at first or later, is an error that names the server and the remedy."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from buffer import connection, streams
from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.streams import Address, ServerError, connect
from configs.redis_url import PASSWORD_VARIABLE
from tests.buffer.run_by_hand import Run, offers
from tests.buffer.server_by_hand import Rooted, free_port, wait_until


def test_the_password_may_come_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(folder) as running:
        password, path = running.url.removeprefix("unix://driver:").split("@")
        monkeypatch.setenv(PASSWORD_VARIABLE, password)
        connect(Address(f"unix://driver@{path}", "r")).close()
        monkeypatch.setenv(PASSWORD_VARIABLE, "of another server")
        connect(Address(running.url, "r")).close()


def test_a_server_that_cannot_write_is_named(folder: Path) -> None:
    """A full disk, played by a folder that is gone: the server then refuses writes with the same error."""
    with Rooted(folder) as running:
        client, root = connect(Address(running.url, "r")), running.root
        streams.setup(client, "r", meta_rm=False)
        ledger = Ledger(client, "r")
        root.config_set("save", "3600 1")
        shutil.rmtree(folder)
        root.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(ServerError, match=r"cannot write to its disk; free space"):
            ledger.issue(offers(0, 1), version=0, limit=1)
        assert ledger.cursor().group == 0
        assert ledger.outstanding() == {}
        root.config_set("save", "")  # or it refuses to end


def test_a_server_at_its_memory_limit_is_named(folder: Path) -> None:
    with Rooted(folder) as running:
        client = connect(Address(running.url, "r"))
        streams.setup(client, "r", meta_rm=False)
        running.root.config_set("maxmemory", "1")
        with pytest.raises(ServerError, match=r"memory limit; raise maxmemory"):
            Ledger(client, "r").issue(offers(0, 1), version=0, limit=1)
        running.root.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(ServerError, match=r"may evict keys \(maxmemory-policy allkeys-lru\)"):
            connect(Address(running.url, "r"))


def test_a_server_that_went_away_for_good_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRIES", 2)
    with EmbeddedServer(folder) as running:
        ledger = Ledger(connect(Address(running.url, "lonely-run")), "lonely-run")
        ledger.version()
    with pytest.raises(ServerError, match=r"lonely-run: the Redis server went away"):
        ledger.version()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://127.0.0.1:1", r"redis://127.0.0.1:1 is not reachable.*start the server or correct redis.url"),
        ("unix:///tmp/no-such.sock", r"no-such.sock is not reachable.*path of its socket"),
        ("redis://user:pw@no-such-host.invalid:6379", r"redis://no-such-host.invalid:6379 is not reachable"),
    ],
)
def test_an_address_without_a_server(url: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(ServerError, match=message) as caught:
        connect(Address(url, "r"), timeout_s=2)
    assert "pw" not in str(caught.value)
    assert time.monotonic() - start < 60, "it gives up (a name server may take its time)"


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", ""])
def test_an_address_is_a_redis_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis://, rediss:// or unix://"):
        Address(url, "r")


def answering(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """Yield a port where something else listens; b"" is no answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    while request := peer.recv(1000):
                        peer.sendall(reply(request))

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Redis"),
        (b"+OK\r\n", "does not speak Redis"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading its data"),
        (b"-NOAUTH Authentication required.\r\n", "refuses the password"),
        (b"-NOPERM this user has no permissions to run the 'info' command\r\n", "correct its ACL"),
        (b"-BUSY Redis is busy running a script.\r\n", "is held up by a script: end that"),
        (b"", "does not answer: is it a Redis"),
    ],
)
def test_something_else_listens_there(reply: bytes, message: str) -> None:
    for port in answering(lambda request: reply):
        start = time.monotonic()
        with pytest.raises(ServerError, match=message):
            connect(Address(f"redis://127.0.0.1:{port}", "r"), timeout_s=1)
        assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("redis_version:6.2.14", r"version 6.2.14 is too old; use Valkey or Redis, 7.0 or later"),
        ("redis_version:7.4.0\r\nredis_mode:cluster\r\ncluster_enabled:1", "it runs in cluster mode: give a server of its own"),
        ("redis_version:8.0.0\r\nredis_mode:sentinel", "it runs in sentinel mode: give a server of its own"),
        (
            "redis_version:7.2.0\r\nredis_mode:standalone\r\nrole:slave",
            "it is a replica, which takes no writes: give its primary",
        ),
    ],
)
def test_a_server_that_cannot_do_is_refused(lines: str, message: str) -> None:
    info = f"{lines}\r\nmaxmemory:0\r\n".encode()

    def reply(request: bytes) -> bytes:
        return b"$%d\r\n%s\r\n" % (len(info), info) if b"\r\nINFO\r\n" in request else b"+OK\r\n"

    for port in answering(reply):
        with pytest.raises(ServerError, match=message):
            connect(Address(f"redis://127.0.0.1:{port}", "r"), timeout_s=1)


def test_the_environments_password_can_travel_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCT_REDIS_PASSWORD", "s3cret/@:x")
    address = Address("redis://somewhere:6380/2", "run").with_password()
    assert address.url == "redis://:s3cret%2F%40%3Ax@somewhere:6380/2"
    assert "s3cret" not in repr(address)
    assert Address("redis://:own@somewhere:6380", "run").with_password().url == "redis://:own@somewhere:6380"
    monkeypatch.delenv("SPCT_REDIS_PASSWORD")
    assert Address("unix:///tmp/s", "run").with_password().url == "unix:///tmp/s"


def test_a_call_to_a_host_that_drops_packets_is_repeated_as_often_as_configured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link dies under a call, and connecting again is not refused but times out, as where a firewall drops packets."""
    monkeypatch.setattr(connection, "RETRIES", 3)
    connects = []

    def times_out(self: object) -> None:
        connects.append(self)
        raise TimeoutError("timed out")

    def dies(self: object, *args: object, **options: object) -> None:
        raise redis.ConnectionError("the link died")

    port = free_port()
    with EmbeddedServer(folder, port=port) as running:
        client = connect(Address(running.url, "r"))
        client.exists("spct:{r}:x")
        monkeypatch.setattr(redis.Connection, "_connect", times_out)
        monkeypatch.setattr(redis.Connection, "read_response", dies)
        with pytest.raises(redis.TimeoutError):
            client.exists("spct:{r}:x")
    assert len(connects) == 3
    assert connection.REQUEST_S > (20 + 1) * (connection.ANSWER_S + 1.0), (
        "scripts remember a call longer than clients repeat it"
    )


@pytest.mark.parametrize("run_id", ["", "a b", "a*", "{a}", "../x", "a" * 101, "a\n"])
def test_run_ids_hold_no_special_character(client: redis.Redis, run_id: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        Address("redis://127.0.0.1", run_id)
    with pytest.raises(ValueError, match="run id"):
        Run(client, run_id)
