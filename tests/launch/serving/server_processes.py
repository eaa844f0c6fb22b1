"""The processes of a reward server, started as a user does: Ray Serve, Redis, HTTP workers, judges."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.launch.whole_run import ROOT, environment, mentioning

ENTRY = ROOT / "launch" / "serve.py"
READY_S = 240.0  # on a machine that does much else
JUDGE, HTTP_WORKER, PROXY = "ServeReplica:spct-back:judge", "ServeReplica:spct:http", "ray::ProxyActor"  # titles of Ray
ENGINE = "actors.engine_process"  # in the command line of a judge's engine
STORE = "redis.sock"  # in the title of the Redis server


class Server:
    """A server of `tiny` on CPU. Leaving the block stops it."""

    def __init__(self, folder: Path, *options: str, entry: Path = ENTRY) -> None:
        """Starts it, and waits until it is ready.

        Args:
            folder: Of all its files; that of a server that has ended is taken over.
            *options: Of `launch/serve.py`.
            entry: The program.
        """
        self.folder, self.log, port = folder, folder / "server.log", free_port()
        folder.mkdir(exist_ok=True)
        where = ["--model", "tiny", "--device", "cpu", "--port", str(port), "--state", str(folder / "state")]
        self.url = f"http://127.0.0.1:{port}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(entry), *where, *options],
                cwd=folder,
                env=environment(PYTHONPATH=str(ROOT)),
                text=True,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_for(lambda: "\ntry " in self.log.read_text(), READY_S)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def wait_for(self, condition: Callable[[], object], limit_s: float = 120.0) -> None:
        """Waits for an effect."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def processes(self, title: str) -> list[int]:
        """Returns the processes of this server whose title, or command line, holds a text."""
        return [pid for pid, line in mentioning(str(self.folder)).items() if title in line]

    def stop(self) -> None:
        """Ends it, as SIGTERM does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def set_options(settings: Iterable[str]) -> list[str]:
    """Returns options of `launch/serve.py` that give settings."""
    return [word for setting in settings for word in ("--set", setting)]


def kill(pid: int) -> None:
    """Ends a process at once."""
    os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """Returns a port of loopback at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
