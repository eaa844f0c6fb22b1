"""The watchdog of the embedded server: it restarts a server that crashes, gives up when it keeps crashing, and stops it."""

import logging
import os
import signal
import subprocess
from pathlib import Path

import pytest

from buffer import server_watchdog, streams
from buffer.server import EmbeddedServer
from buffer.server_watchdog import ServerWatchdog
from buffer.streams import Address, ServerError, connect
from tests.buffer.run_by_hand import Run
from tests.buffer.server_by_hand import wait_until


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watchdog, "LOOK_S", 0.01)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


def crash(server: EmbeddedServer) -> None:
    """Kill the server's process."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


def wait_for_restart(log: pytest.LogCaptureFixture, number: int) -> None:
    """Wait until the restart after this crash is complete."""
    wait_until(lambda: f"restarted (crash {number} of this run)" in log.text)


def test_a_server_that_crashes_is_restarted_with_its_data(folder: Path, log: pytest.LogCaptureFixture) -> None:
    server = EmbeddedServer(folder)
    server.start()
    watchdog = ServerWatchdog(server, tries=5)
    try:
        client = connect(Address(server.url, "r"))
        streams.setup(client, "r", meta_rm=False)
        run = Run(client, "r")
        assert run.issue(3) == 3
        for number in (1, 2):
            crash(server)
            assert run.issue(1) == 1, "the call was made while the server was away"
            wait_for_restart(log, number)
        assert run.groups_in("prompts") == [0, 1, 2, 3, 4]
        assert watchdog.deaths == 2
        client.close()
    finally:
        watchdog.stop()
    assert not server.running


def test_it_gives_up_after_so_many_crashes_in_a_row(folder: Path, log: pytest.LogCaptureFixture) -> None:
    server = EmbeddedServer(folder)
    server.start()
    watchdog = ServerWatchdog(server, tries=1)
    try:
        crash(server)
        wait_for_restart(log, 1)
        crash(server)
        wait_until(lambda: "crashed 2 times in a row; giving up" in log.text)
        assert str(server.log) in log.text
        assert not server.running
    finally:
        watchdog.stop()
    assert watchdog.deaths == 2


def test_crashes_that_are_far_apart_are_not_in_a_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_watchdog, "LASTING_S", 0.0)
    server = EmbeddedServer(folder)
    server.start()
    watchdog = ServerWatchdog(server, tries=1)
    try:
        for number in (1, 2, 3):
            crash(server)
            wait_for_restart(log, number)
    finally:
        watchdog.stop()
    assert watchdog.deaths == 3


def crash_at_launches(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Kill the server at its next `count` launches, before it answers."""
    launch, left = server._launch, [None] * count

    def launch_and_crash(binary: str, lock: int) -> subprocess.Popen[bytes]:
        process = launch(binary, lock)
        if left:
            left.pop()
            process.kill()
        return process

    monkeypatch.setattr(server, "_launch", launch_and_crash)


@pytest.mark.parametrize("subfolder", ["server", "a-path-too-long-for-a-socket" * 5])
def test_a_crash_while_it_restarts_is_one_more_crash(
    folder: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, subfolder: str
) -> None:
    server = EmbeddedServer(folder / subfolder)
    url = server.start()
    watchdog = ServerWatchdog(server, tries=3)
    try:
        client = connect(Address(url, "r"))
        streams.setup(client, "r", meta_rm=False)
        run = Run(client, "r")
        crash_at_launches(server, monkeypatch, 2)
        crash(server)
        wait_for_restart(log, 3)
        assert server.url == url
        assert run.issue(1) == 1, "the clients find it at its address"
        assert watchdog.deaths == 3
        client.close()
    finally:
        watchdog.stop()
    assert not os.path.lexists(server.folder / "redis.sock")


def test_it_gives_up_after_so_many_crashes_while_it_restarts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedServer(folder)
    server.start()
    watchdog = ServerWatchdog(server, tries=2)
    try:
        crash_at_launches(server, monkeypatch, 5)
        crash(server)
        wait_until(lambda: "crashed 3 times in a row; giving up" in log.text)
        assert not server.running
    finally:
        watchdog.stop()
    assert watchdog.deaths == 3


def test_a_restart_that_fails_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> None:
    server = EmbeddedServer(folder)
    server.start()

    def refuse(self: EmbeddedServer) -> str:
        raise ServerError("no room left")

    watchdog = ServerWatchdog(server, tries=5)
    try:
        monkeypatch.setattr(EmbeddedServer, "start", refuse)
        crash(server)
        wait_until(lambda: "could not be restarted: no room left" in log.text)
    finally:
        watchdog.stop()
    assert watchdog.deaths == 1


def test_a_watchdog_that_is_stopped_restarts_nothing(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.start()
    watchdog = ServerWatchdog(server, tries=5)
    watchdog.stop()
    assert not server.running
    assert watchdog.deaths == 0
