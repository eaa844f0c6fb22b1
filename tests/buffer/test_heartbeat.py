"""Who is alive: beats on a real server, a part that hangs, one that is stopped, one that leaves, a server that restarts."""

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
from buffer.heartbeat import IDLE, Heartbeat, LastHeartbeat, last_heartbeats, remove_heartbeat
from buffer.server import EmbeddedServer
from buffer.streams import Address, connect

EVERY_S = 0.05


@contextmanager
def beating(
    address: Address,
    name: str = "rollout-0",
    *,
    hang_s: float = 60.0,
    keep: Callable[[], None] = lambda: None,
    stacks: str = "",
) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(address, name, every_s=EVERY_S, hang_s=hang_s, keep=keep, stacks=stacks)
    try:
        yield heartbeat
    finally:
        heartbeat.stop()


def until(
    client: redis.Redis, address: Address, holds: Callable[[LastHeartbeat], bool], name: str = "rollout-0"
) -> LastHeartbeat:
    """The first beat of which it holds."""
    deadline = time.monotonic() + 10
    while not holds(beat := last_heartbeats(client, address.run_id)[name]):
        assert time.monotonic() < deadline, beat
        time.sleep(0.01)
    return beat


def test_a_part_says_who_and_where_it_is_from_its_start(client: redis.Redis, address: Address) -> None:
    with beating(address, stacks="/run/stacks/rollout-0.txt"):
        (beat,) = last_heartbeats(client, address.run_id).values()
        assert beat.age_s < 1
        assert beat == LastHeartbeat(
            name="rollout-0",
            host=socket.gethostname(),
            pid=os.getpid(),
            age_s=beat.age_s,
            activity=IDLE,
            stuck_s=0.0,
            version=0,
            done=0,
            stacks="/run/stacks/rollout-0.txt",
        )


def test_it_beats_on_by_itself(client: redis.Redis, address: Address) -> None:
    with beating(address):
        for _ in range(5):
            old = until(client, address, lambda beat: beat.age_s > EVERY_S / 2).age_s
            until(client, address, lambda beat, old=old: beat.age_s < old)  # type: ignore[misc]


def test_it_tells_what_it_is_doing_and_what_it_has_done(client: redis.Redis, address: Address) -> None:
    with beating(address) as heartbeat:
        with heartbeat.activity("roll out"):
            heartbeat.version, heartbeat.done = 7, 12
            beat = until(client, address, lambda beat: beat.activity == "roll out" and beat.done == 12)
            assert beat.version == 7
            with heartbeat.activity("pull"):
                until(client, address, lambda beat: beat.activity == "pull")
            until(client, address, lambda beat: beat.activity == "roll out")
        assert until(client, address, lambda beat: beat.activity == IDLE).done == 12


def test_it_says_for_how_long_nothing_has_moved(client: redis.Redis, address: Address) -> None:
    with beating(address) as heartbeat:
        with heartbeat.activity("train"):
            until(client, address, lambda beat: beat.stuck_s > 0.3)
            assert until(client, address, lambda beat: heartbeat.progressed() or beat.stuck_s < 0.3).activity == "train"
            until(client, address, lambda beat: beat.stuck_s > 0.3)
        time.sleep(0.3)
        assert until(client, address, lambda beat: beat.activity == IDLE).stuck_s == 0.0, "who has nothing to do is not stuck"


def test_an_error_in_what_it_does_ends_the_doing(client: redis.Redis, address: Address) -> None:
    def fail(heartbeat: Heartbeat) -> None:
        with heartbeat.activity("train"):
            until(client, address, lambda beat: beat.activity == "train")
            raise ValueError("no such luck")

    with beating(address) as heartbeat:
        with pytest.raises(ValueError, match="no such luck"):
            fail(heartbeat)
        until(client, address, lambda beat: beat.activity == IDLE)


def test_claims_are_kept_unless_it_hangs(client: redis.Redis, address: Address) -> None:
    kept: list[float] = []
    with beating(address, hang_s=0.3, keep=lambda: kept.append(time.monotonic())) as heartbeat:
        until(client, address, lambda beat: len(kept) >= 5)  # for longer than hang_s
        assert not heartbeat.hung, "idle for long is no hanging"
        with heartbeat.activity("roll out"):
            began = time.monotonic()
            until(client, address, lambda beat: beat.stuck_s > 0.7)
            assert max(kept) < began + 0.5
            assert heartbeat.hung
            heartbeat.progressed()
            assert not heartbeat.hung
            progressed = time.monotonic()
            deadline = progressed + 5
            while max(kept) < progressed:
                heartbeat.progressed()
                assert time.monotonic() < deadline, "it works again, and keeps its claims no more"
                time.sleep(0.01)


def test_leaving_takes_the_pulse_away(client: redis.Redis, address: Address) -> None:
    with beating(address), beating(address, "reward-0"):
        assert last_heartbeats(client, address.run_id).keys() == {"rollout-0", "reward-0"}
    assert last_heartbeats(client, address.run_id) == {}
    time.sleep(3 * EVERY_S)
    assert last_heartbeats(client, address.run_id) == {}, "it came back"


def test_one_that_was_ended_is_forgotten(client: redis.Redis, address: Address) -> None:
    with beating(address, "reward-0"):
        client.hset(f"spct:{{{address.run_id}}}:heartbeats", "rollout-0", _left_behind())
        assert last_heartbeats(client, address.run_id)["rollout-0"].age_s > 1e6
        remove_heartbeat(client, address.run_id, "rollout-0")
        remove_heartbeat(client, address.run_id, "rollout-0")
        assert last_heartbeats(client, address.run_id).keys() == {"reward-0"}


def _left_behind() -> str:
    return '1000.0 {"host": "h", "pid": 1, "activity": "idle", "stuck_s": 0, "version": 0, "done": 0, "stacks": ""}'


PART = """
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
def part(address: Address) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", PART, address.run_id], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(f"{address.url}\n")
    process.stdin.close()
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_one_that_is_stopped_or_killed_grows_old(
    client: redis.Redis, address: Address, part: subprocess.Popen[str], number: int
) -> None:
    deadline = time.monotonic() + 30
    while not last_heartbeats(client, address.run_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert until(client, address, lambda beat: beat.activity == "roll out").pid == part.pid
    part.send_signal(number)
    assert until(client, address, lambda beat: beat.age_s > 1.0).activity == "roll out"
    if number == signal.SIGSTOP:
        part.send_signal(signal.SIGCONT)
        assert until(client, address, lambda beat: beat.age_s < 0.5).pid == part.pid


@pytest.mark.parametrize("retries", [connection.RETRIES, 1], ids=["within its patience", "beyond it"])
def test_it_rides_through_a_server_that_restarts(monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    monkeypatch.setattr(connection, "RETRIES", retries)
    kept: list[float] = []
    with tempfile.TemporaryDirectory(prefix="spct-") as folder, EmbeddedServer(Path(folder)) as running:
        address = Address(running.url, "r")
        with beating(address, keep=lambda: kept.append(time.monotonic())) as heartbeat:
            assert running.pid is not None
            os.kill(running.pid, signal.SIGKILL)
            time.sleep(0.4)
            back = threading.Timer(0.4, running.start)
            back.start()
            heartbeat.done = 3
            back.join()
            restarted = time.monotonic()
            with connect(address) as client:
                until(client, address, lambda beat: beat.done == 3 and beat.age_s < 0.5)
            deadline = time.monotonic() + 5
            while max(kept, default=0.0) < restarted:
                assert time.monotonic() < deadline, "its claims are not kept any more"
                time.sleep(0.01)
