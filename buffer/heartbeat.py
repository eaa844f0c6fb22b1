"""Which processes of a run are alive, and what each of them is doing.

    process ── heartbeat: host, pid, activity, version, time without progress ──▶ hash `heartbeats` ◀── driver, status

A thread of each process sends its heartbeats and renews its claims. A process that is killed, stopped (SIGSTOP) or cut off
falls silent. One whose main thread hangs in the middle of its work keeps sending heartbeats, which report for how long
nothing has progressed, and no longer renews its claims.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from buffer.connection import Address, Namespace, ServerError, connect
from buffer.json_text import parse_object

IDLE = "idle"
HEARTBEATS = "heartbeats"
LONGEST = 1 << 16  # bytes of a heartbeat


@dataclass(frozen=True, kw_only=True, slots=True)
class LastHeartbeat:
    """The last heartbeat of a process."""

    name: str
    """Name of the process in the run: `driver`, `rollout-0`, ..."""
    host: str
    """Name of its machine."""
    pid: int
    """Its process id there."""
    age_s: float
    """Seconds since this heartbeat, by the server's clock."""
    activity: str
    """What it was doing, in a few words; `idle` between two calls."""
    stuck_s: float
    """Seconds for which that activity had made no progress at this heartbeat; 0 while idle."""
    version: int
    """Version of its policy weights, or of its model."""
    done: int
    """Groups or steps that it has finished."""
    stacks: str
    """File on its host to which SIGUSR1 makes it write the stack of every thread."""


class Heartbeat:
    """The heartbeat of this process, sent by a thread of its own from construction until `stop`.

    Args:
        address: The run.
        name: Name of this process in the run.
        every_s: Seconds between two heartbeats.
        hang_s: Seconds without progress in one activity after which the process counts as hung.
        renew_claims: Renews the claims of this process; called after each heartbeat unless the process is hung.
        stacks: See `LastHeartbeat`.

    Attributes:
        version: Sent with each heartbeat; set by the owner.
        done: Likewise.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        every_s: float,
        hang_s: float,
        renew_claims: Callable[[], None] = lambda: None,
        stacks: str = "",
    ) -> None:
        self._name, self._every_s, self._hang_s, self._renew_claims, self._stacks = name, every_s, hang_s, renew_claims, stacks
        self._client = connect(address, timeout_s=max(5.0, every_s))
        self._space = Namespace(self._client, address.run_id)
        self._activity, self._progressed_at = IDLE, time.monotonic()
        self._last = b""  # as it lies on the server
        self.version = self.done = 0
        self._ended = threading.Event()
        self._send()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def activity(self, name: str) -> Iterator[None]:
        """Report this activity while the block runs."""
        before, self._activity, self._progressed_at = self._activity, name, time.monotonic()
        try:
            yield
        finally:
            self._activity, self._progressed_at = before, time.monotonic()

    def progressed(self) -> None:
        """Note that the activity has made progress."""
        self._progressed_at = time.monotonic()

    @property
    def hung(self) -> bool:
        """Whether the activity has made no progress for `hang_s`."""
        return self._stuck_s >= self._hang_s

    def stop(self) -> None:
        """Send no further heartbeats, and remove the last one, unless another process has sent one under this name since.
        Harmless when repeated."""
        self._ended.set()
        self._thread.join(self._every_s + 30.0)
        _remove(self._space, self._name, self._last)
        self._client.close()

    @property
    def _stuck_s(self) -> float:
        return 0.0 if self._activity == IDLE else time.monotonic() - self._progressed_at

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._send()
                if not self.hung:
                    self._renew_claims()
            except ServerError:
                # The main thread uses the same server and raises the error. Here it only means a missed heartbeat.
                continue

    def _send(self) -> None:
        report = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "activity": self._activity,
            "stuck_s": round(self._stuck_s, 3),
            "version": self.version,
            "done": self.done,
            "stacks": self._stacks,
        }
        self._last = self._space.run("heartbeat", [HEARTBEATS], self._name, json.dumps(report))


def last_heartbeats(client: redis.Redis, run_id: str) -> dict[str, LastHeartbeat]:
    """Return the last heartbeat of each process that has not stopped its own, by name. One that cannot be read is none: its
    process counts as silent."""
    space = Namespace(client, run_id)
    seconds, micros = space.command("TIME")
    now = int(seconds) + int(micros) / 1e6
    values = space.command("HGETALL", space.key(HEARTBEATS))
    read = [_read(name, value, now) for name, value in values.items()]
    return {heartbeat.name: heartbeat for heartbeat in read if heartbeat is not None}


def remove_heartbeat(client: redis.Redis, run_id: str, name: str) -> None:
    """Remove the heartbeat of a process that was ended from outside."""
    _remove(Namespace(client, run_id), name, b"")


def _remove(space: Namespace, name: str, heartbeat: bytes) -> None:
    """`heartbeat`: only if it is still this one; b"": whichever there is."""
    space.run("remove_heartbeat", [HEARTBEATS], name, heartbeat)


def _read(name: bytes, value: bytes, now: float) -> LastHeartbeat | None:
    at, _, report = value.partition(b" ")
    try:
        fields = parse_object(report[:LONGEST], "heartbeat")
        heartbeat = LastHeartbeat(name=name.decode(), age_s=max(0.0, now - float(at)), **fields)
    except (ValueError, TypeError):
        return None
    types = [type(getattr(heartbeat, field)) for field in ("host", "pid", "activity", "version", "done", "stacks")]
    sound = types == [str, int, str, int, int, str] and type(heartbeat.stuck_s) in (int, float)
    return heartbeat if sound else None
