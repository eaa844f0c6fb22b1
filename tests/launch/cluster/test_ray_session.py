"""The Ray that a run starts for itself: it listens on loopback only, requires the token, writes nothing into the
home folder, and leaves no process behind."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.launch.whole_run import mentioning

pytestmark = pytest.mark.slow

IPV4_LOOPBACK, IPV6_LOOPBACK = "0100007F", "0000000000000000FFFF00000100007F"  # 127.0.0.1 as /proc/net writes it
DRIVER = """
import os, subprocess, sys
from pathlib import Path
import ray
from configs.load import load
from launch.cluster.ray_cluster import Cluster
from launch.setup.model_files import resolve

class Plain:
    def environment(self):
        return os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]

    def beget(self):  # what Ray does not end: a child's child in a session of its own
        shell = subprocess.Popen(["sh", "-c", "setsid sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        return int(shell.stdout.readline())

with Cluster(load("tiny"), run_id="own", folder=Path(sys.argv[1]), model=resolve("tiny"), gpus=0) as cluster:
    actor = cluster.remote(Plain)
    mode, token = ray.get(actor.environment.remote(), timeout=120)
    assert mode == "token" and token == os.environ["RAY_AUTH_TOKEN"]
    grandchild = ray.get(actor.beget.remote(), timeout=120)
    print(ray.get_runtime_context().gcs_address, token, grandchild, flush=True)
    sys.stdin.read()
"""
STRANGER = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1])
    print("came in")
except Exception as error:
    print(type(error).__name__)
"""


def listening(pid: int) -> set[str]:
    """Addresses on which a process or one of its family listens."""
    held = set()
    parent = psutil.Process(pid)
    for process in (parent, *parent.children(recursive=True)):
        with suppress(OSError):  # it ended while we looked
            for file in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):  # it was closed
                    held.add(os.readlink(file))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in held:  # 0A: it listens
                addresses.add(words[1].rpartition(":")[0])
    return addresses


def test_only_this_machine_and_only_with_the_token_reaches_it_and_nothing_outlives_it(tmp_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    run.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2]), "SPCT_RUN": str(run)}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(run)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:  # its end of input ends it, whatever happens here
        assert driver.stdout is not None
        address, token, grandchild = driver.stdout.readline().split()
        assert address.startswith("127.0.0.1:")
        addresses = listening(driver.pid)
        assert IPV6_LOOPBACK in addresses, "Ray's own daemons"
        assert addresses <= {IPV4_LOOPBACK, IPV6_LOOPBACK}
        assert int(grandchild) in mentioning(str(run))

        def enter(**auth: str) -> str:
            asked = [sys.executable, "-c", STRANGER, address]
            done = subprocess.run(asked, env=env | auth, capture_output=True, text=True, timeout=120, check=True)
            return done.stdout.strip()

        assert enter(RAY_AUTH_MODE="disabled") == "AuthenticationError"
        assert enter(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64) == "AuthenticationError"
        assert enter(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token) == "came in"
    assert driver.returncode == 0
    assert list(home.rglob("*")) == []
    assert not mentioning(str(run))
