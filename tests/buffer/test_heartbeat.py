"""Heartbeats on a real server: of processes that work, hang, are stopped or killed, leave, or lose their server briefly."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from buffer import connection
from buffer.heartbeat import HEARTBEATS, IDLE, Heartbeat, LastHeartbeat, last_heartbeats, remove_heartbeat
from buffer.server import EmbeddedServer
from buffer.streams import Address, connect

EVERY_S = 0.05


@contextmanager
def started(
    address: Address,
    name: str = "rollout-0",
    *,
    hang_s: float = 60.0,
    renew_claims: Callable[[], None] = lambda: None,
    stacks: str = "",
) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(address, name, every_s=EVERY_S, hang_s=hang_s, renew_claims=renew_claims, stacks=stacks)
    try:
        yield heartbeat
    finally:
        heartbeat.stop()


def until(
    client: redis.Redis, address: Address, holds: Callable[[LastHeartbeat], bool], name: str = "rollout-0"
) -> LastHeartbeat:
    """Wait until `holds` is true of the last heartbeat, and return it."""
    deadline = time.monotonic() + 60
    while not holds(last := last_heartbeats(client, address.run_id)[name]):
        assert time.monotonic() < deadline, last
        time.sleep(0.01)
    return last


def test_the_first_heartbeat_names_the_process_and_its_host(client: redis.Redis, address: Address) -> None:
    with started(address, stacks="/run/stacks/rollout-0.txt"):
        (last,) = last_heartbeats(client, address.run_id).values()
        assert last.age_s < 1
        assert last == LastHeartbeat(
            name="rollout-0",
            host=socket.gethostname(),
            pid=os.getpid(),
            age_s=last.age_s,
            activity=IDLE,
            stuck_s=0.0,
            version=0,
            done=0,
            stacks="/run/stacks/rollout-0.txt",
        )


def test_heartbeats_go_on_by_themselves(client: redis.Redis, address: Address) -> None:
    with started(address):
        for _ in range(5):
            old = until(client, address, lambda last: last.age_s > EVERY_S / 2).age_s
            until(client, address, lambda last, old=old: last.age_s < old)  # type: ignore[misc]


def test_a_heartbeat_reports_the_activity_and_what_is_done(client: redis.Redis, address: Address) -> None:
    with started(address) as heartbeat:
        with heartbeat.activity("roll out"):
            heartbeat.version, heartbeat.done = 7, 12
            last = until(client, address, lambda last: last.activity == "roll out" and last.done == 12)
            assert last.version == 7
            with heartbeat.activity("pull"):
                until(client, address, lambda last: last.activity == "pull")
            until(client, address, lambda last: last.activity == "roll out")
        assert until(client, address, lambda last: last.activity == IDLE).done == 12


def test_a_heartbeat_reports_for_how_long_nothing_has_progressed(client: redis.Redis, address: Address) -> None:
    with started(address) as heartbeat:
        with heartbeat.activity("train"):
            until(client, address, lambda last: last.stuck_s > 0.3)
            assert until(client, address, lambda last: heartbeat.progressed() or last.stuck_s < 0.3).activity == "train"
            until(client, address, lambda last: last.stuck_s > 0.3)
        time.sleep(0.3)
        assert until(client, address, lambda last: last.activity == IDLE).stuck_s == 0.0, "an idle process is not stuck"


def test_an_error_ends_the_activity(client: redis.Redis, address: Address) -> None:
    def fail(heartbeat: Heartbeat) -> None:
        with heartbeat.activity("train"):
            until(client, address, lambda last: last.activity == "train")
            raise ValueError("no such luck")

    with started(address) as heartbeat:
        with pytest.raises(ValueError, match="no such luck"):
            fail(heartbeat)
        until(client, address, lambda last: last.activity == IDLE)


def test_claims_are_renewed_unless_the_process_hangs(client: redis.Redis, address: Address) -> None:
    renewed: list[float] = []
    with started(address, hang_s=0.3, renew_claims=lambda: renewed.append(time.monotonic())) as heartbeat:
        until(client, address, lambda last: len(renewed) >= 5)  # for longer than hang_s
        assert not heartbeat.hung, "a process that is idle for long is not hung"
        with heartbeat.activity("roll out"):
            began = time.monotonic()
            until(client, address, lambda last: last.stuck_s > 0.7)
            assert max(renewed) < began + 0.5
            assert heartbeat.hung
            heartbeat.progressed()
            assert not heartbeat.hung
            progressed = time.monotonic()
            deadline = progressed + 5
            while max(renewed) < progressed:
                heartbeat.progressed()
                assert time.monotonic() < deadline, "it works again, but its claims are not renewed"
                time.sleep(0.01)


def test_a_process_that_stops_leaves_no_heartbeat(client: redis.Redis, address: Address) -> None:
    with started(address), started(address, "reward-0"):
        assert last_heartbeats(client, address.run_id).keys() == {"rollout-0", "reward-0"}
    assert last_heartbeats(client, address.run_id) == {}
    time.sleep(3 * EVERY_S)
    assert last_heartbeats(client, address.run_id) == {}, "it came back"


def test_the_heartbeat_of_a_process_that_was_ended_can_be_removed(client: redis.Redis, address: Address) -> None:
    with started(address, "reward-0"):
        client.hset(f"spct:{{{address.run_id}}}:heartbeats", "rollout-0", _left_behind())
        assert last_heartbeats(client, address.run_id)["rollout-0"].age_s > 1e6
        remove_heartbeat(client, address.run_id, "rollout-0")
        remove_heartbeat(client, address.run_id, "rollout-0")
        assert last_heartbeats(client, address.run_id).keys() == {"reward-0"}


def _left_behind() -> str:
    return '1000.0 {"host": "h", "pid": 1, "activity": "idle", "stuck_s": 0, "version": 0, "done": 0, "stacks": ""}'


PROCESS = """
import sys, time
from buffer.heartbeat import Heartbeat
from buffer.streams import Address
heartbeat = Heartbeat(Address(sys.stdin.readline().strip(), sys.argv[1]), "rollout-0", every_s=0.05, hang_s=60)
with heartbeat.activity("roll out"):
    while True:
        heartbeat.progressed()
        time.sleep(0.02)
"""


@pytest.fixture
def process(address: Address) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", PROCESS, address.run_id], stdin=subprocess.PIPE, text=True)
    assert child.stdin is not None
    child.stdin.write(f"{address.url}\n")
    child.stdin.close()
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_is_stopped_or_killed_falls_silent(
    client: redis.Redis, address: Address, process: subprocess.Popen[str], number: int
) -> None:
    deadline = time.monotonic() + 60
    while not last_heartbeats(client, address.run_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert until(client, address, lambda last: last.activity == "roll out").pid == process.pid
    process.send_signal(number)
    assert until(client, address, lambda last: last.age_s > 1.0).activity == "roll out"
    if number == signal.SIGSTOP:
        process.send_signal(signal.SIGCONT)
        assert until(client, address, lambda last: last.age_s < 0.5).pid == process.pid


@pytest.mark.parametrize("retries", [connection.RETRIES, 1], ids=["within its patience", "beyond it"])
def test_heartbeats_go_on_when_the_server_restarts(monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    monkeypatch.setattr(connection, "RETRIES", retries)
    renewed: list[float] = []
    with tempfile.TemporaryDirectory(prefix="spct-") as folder, EmbeddedServer(Path(folder)) as running:
        address = Address(running.url, "r")
        with started(address, renew_claims=lambda: renewed.append(time.monotonic())) as heartbeat:
            assert running.pid is not None
            os.kill(running.pid, signal.SIGKILL)
            time.sleep(0.4)
            back = threading.Timer(0.4, running.start)
            back.start()
            heartbeat.done = 3
            back.join()
            restarted = time.monotonic()
            with connect(address) as client:
                until(client, address, lambda last: last.done == 3 and last.age_s < 0.5)
            deadline = time.monotonic() + 60
            while max(renewed, default=0.0) < restarted:
                assert time.monotonic() < deadline, "its claims are not renewed any more"
                time.sleep(0.01)


@pytest.mark.parametrize(
    "report",
    ["[" * 100_000, "{}", "[1]", '{"host": 1}', '{"a": ' + "9" * 5000 + "}", "\xff", '{"a": "%s"}' % ("x" * (1 << 17))],
)
def test_a_heartbeat_that_cannot_be_read_is_none(client: redis.Redis, address: Address, report: str) -> None:
    with started(address):
        client.hset(connection.key(address.run_id, HEARTBEATS), "rollout-1", f"1.0 {report}")
        assert list(last_heartbeats(client, address.run_id)) == ["rollout-0"]
