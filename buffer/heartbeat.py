"""Who is alive, and what it is doing: every part beats from a thread of its own, and keeps its claims by it.

    part ── beat: name, host, pid, doing, version, how long without progress ──▶ hash `pulses` ◀── driver, status

A process that is killed, stopped (SIGSTOP) or cut off beats no more; one whose main thread hangs in the middle of its
work beats on, says for how long nothing has moved, and lets go of its claims.
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
class Beat:
    """The last that was heard of a part.

    age_s: since then. doing: in a few words, `idle` between two calls. stuck_s: how long it had been doing that without
    any progress when it beat. version: of the policy weights it has, or of its model. done: groups or steps finished.
    stacks: the file on its host into which SIGUSR1 makes it write the stack of every thread.
    """

    name: str
    host: str
    pid: int
    age_s: float
    doing: str
    stuck_s: float
    version: int
    done: int
    stacks: str


class Pulse:
    """A part's own pulse. keep: called at every beat while the part is not hung: it renews the part's claims.

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
        self._doing, self._moved = IDLE, time.monotonic()
        self.version = self.done = 0
        self._ended = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """While the block runs, this is what the part is busy with."""
        before, self._doing, self._moved = self._doing, what, time.monotonic()
        try:
            yield
        finally:
            self._doing, self._moved = before, time.monotonic()

    def moved(self) -> None:
        """There was progress."""
        self._moved = time.monotonic()

    @property
    def hung(self) -> bool:
        """Whether what it does has stood still for longer than `hang_s`."""
        return self._stuck_s >= self._hang_s

    def stop(self) -> None:
        """Beat no more, and leave no pulse behind."""
        self._ended.set()
        self._thread.join(self._every_s + 30.0)
        self._space.run("pulse", ["pulses"], self._name, "")
        self._client.close()

    @property
    def _stuck_s(self) -> float:
        return 0.0 if self._doing == IDLE else time.monotonic() - self._moved

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._beat()
                if not self.hung:
                    self._keep()
            except ServerError:
                # The part itself meets the same server and tells; a pulse that cannot be written is one that is missed.
                continue

    def _beat(self) -> None:
        said = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "doing": self._doing,
            "stuck_s": round(self._stuck_s, 3),
            "version": self.version,
            "done": self.done,
            "stacks": self._stacks,
        }
        self._space.run("pulse", ["pulses"], self._name, json.dumps(said))


def beats(client: redis.Redis, run_id: str) -> dict[str, Beat]:
    """{name: its last beat} of every part of the run that has not taken leave."""
    space = Namespace(client, run_id)
    seconds, micros = space.command("TIME")
    now = int(seconds) + int(micros) / 1e6
    found = space.command("HGETALL", space.key("pulses"))
    return {name.decode(): _read(name.decode(), value.decode(), now) for name, value in found.items()}


def forget(client: redis.Redis, run_id: str, name: str) -> None:
    """Take away the pulse of a part that was ended."""
    Namespace(client, run_id).run("pulse", ["pulses"], name, "")


def _read(name: str, value: str, now: float) -> Beat:
    at, _, said = value.partition(" ")
    return Beat(name=name, age_s=max(0.0, now - float(at)), **json.loads(said))
