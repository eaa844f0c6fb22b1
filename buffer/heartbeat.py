"""Who is alive, and what it is activity: every part beats from a thread of its own, and keeps its claims by it.

    part ── beat: name, host, pid, activity, version, how long without progress ──▶ hash `heartbeats` ◀── driver, status

A process that is killed, stopped (SIGSTOP) or cut off beats no more; one whose main thread hangs in the middle of its
work beats on, says for how long nothing has progressed, and lets go of its claims.
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

IDLE = "idle"


@dataclass(frozen=True, kw_only=True, slots=True)
class LastHeartbeat:
    """The last that was heard of a part.

    age_s: since then. activity: in a few words, `idle` between two calls. stuck_s: how long it had been activity that without
    any progress when it beat. version: of the policy weights it has, or of its model. done: groups or steps finished.
    stacks: the file on its host into which SIGUSR1 makes it write the stack of every thread.
    """

    name: str
    host: str
    pid: int
    age_s: float
    activity: str
    stuck_s: float
    version: int
    done: int
    stacks: str


class Heartbeat:
    """A part's own heartbeat. keep: called at every beat while the part is not hung: it renews the part's claims.

    every_s: seconds between beats. hang_s: how long something may be done without progress before `keep` is no longer
    called.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        every_s: float,
        hang_s: float,
        keep: Callable[[], None] = lambda: None,
        stacks: str = "",
    ) -> None:
        self._name, self._every_s, self._hang_s, self._keep, self._stacks = name, every_s, hang_s, keep, stacks
        self._client = connect(address, timeout_s=max(5.0, every_s))
        self._space = Namespace(self._client, address.run_id)
        self._activity, self._progressed_at = IDLE, time.monotonic()
        self.version = self.done = 0
        self._ended = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def activity(self, what: str) -> Iterator[None]:
        """While the block runs, this is what the part is busy with."""
        before, self._activity, self._progressed_at = self._activity, what, time.monotonic()
        try:
            yield
        finally:
            self._activity, self._progressed_at = before, time.monotonic()

    def progressed(self) -> None:
        """There was progress."""
        self._progressed_at = time.monotonic()

    @property
    def hung(self) -> bool:
        """Whether what it does has stood still for longer than `hang_s`."""
        return self._stuck_s >= self._hang_s

    def stop(self) -> None:
        """LastHeartbeat no more, and leave no heartbeat behind."""
        self._ended.set()
        self._thread.join(self._every_s + 30.0)
        self._space.run("heartbeat", ["heartbeats"], self._name, "")
        self._client.close()

    @property
    def _stuck_s(self) -> float:
        return 0.0 if self._activity == IDLE else time.monotonic() - self._progressed_at

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._beat()
                if not self.hung:
                    self._keep()
            except ServerError:
                # The part itself meets the same server and tells; a heartbeat that cannot be written is one that is missed.
                continue

    def _beat(self) -> None:
        said = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "activity": self._activity,
            "stuck_s": round(self._stuck_s, 3),
            "version": self.version,
            "done": self.done,
            "stacks": self._stacks,
        }
        self._space.run("heartbeat", ["heartbeats"], self._name, json.dumps(said))


def last_heartbeats(client: redis.Redis, run_id: str) -> dict[str, LastHeartbeat]:
    """{name: its last beat} of every part of the run that has not taken leave."""
    space = Namespace(client, run_id)
    seconds, micros = space.command("TIME")
    now = int(seconds) + int(micros) / 1e6
    found = space.command("HGETALL", space.key("heartbeats"))
    return {name.decode(): _read(name.decode(), value.decode(), now) for name, value in found.items()}


def remove_heartbeat(client: redis.Redis, run_id: str, name: str) -> None:
    """Take away the heartbeat of a part that was ended."""
    Namespace(client, run_id).run("heartbeat", ["heartbeats"], name, "")


def _read(name: str, value: str, now: float) -> LastHeartbeat:
    at, _, said = value.partition(" ")
    return LastHeartbeat(name=name, age_s=max(0.0, now - float(at)), **json.loads(said))
