"""A Ray head started by hand, as an operator does."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.launch.whole_run import environment, kill_mentioning, mentioning

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """gcs: where drivers join. dashboard: where jobs are submitted. env: what its drivers need. mark: in the environment of all
    its processes."""

    gcs: str
    dashboard: str
    env: dict[str, str]
    mark: str

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, the workers on it included."""
        kill_mentioning(self.mark)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def started() -> Iterator[Head]:
    """On loopback, without authentication, chosen as such; ended by the mark that all its processes inherit."""
    # short, as Ray's socket names have 107 bytes; what a process of Ray's writes in its last moment must not fail a test
    with tempfile.TemporaryDirectory(prefix="spct-head-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        gcs, dashboard, agent, client = free_ports(4)
        env = environment(
            RAY_AUTH_MODE="disabled",
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
            SPCT_TEST_HEAD=folder,
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        )
        command = [
            RAY,
            "start",
            "--head",
            "--num-cpus=2",
            f"--port={gcs}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
            f"--temp-dir={folder}",
            "--disable-usage-stats",
            "--object-store-memory=300000000",
            f"--ray-client-server-port={client}",
        ]
        done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=180, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            yield Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", env, folder)
        finally:
            deadline = time.monotonic() + 60
            while mentioning(folder) and time.monotonic() < deadline:
                kill_mentioning(folder)
                time.sleep(0.1)
