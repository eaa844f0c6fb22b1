"""Helpers for tests that start a server of their own."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import redis

from buffer.server import EmbeddedServer


class Rooted(EmbeddedServer):
    """A server with one more account, for tests that inspect the server and break it."""

    def _config(self) -> str:
        return super()._config() + "user root on >root ~* &* +@all\n"

    @property
    def root(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.folder / "redis.sock"), username="root", password="root")


def ended(pid: int) -> bool:
    """Whether the process has ended (a zombie has ended too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until the condition holds, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
