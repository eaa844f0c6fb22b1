"""The Ray that a run starts for itself: it listens on loopback only, requires the token, shuts other users out of its files,
writes nothing into the home folder, and leaves no process behind."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.launch.whole_run import environment, mentioning

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
    session = ray._private.worker._global_node.get_session_dir_path()
    print(ray.get_runtime_context().gcs_address, token, grandchild, session, flush=True)
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


# What another local user can try on a folder: look into it, put files and links there, take its place.
ATTACK = """
ls "$1"
echo x > "$1/file"
ln -s /etc/hostname "$1/debug_state.txt"
mv "$1" "$1-away"
"""


@dataclass(frozen=True)
class Live:
    """A Ray of ours that runs, and its driver. `session` is Ray's folder."""

    driver: subprocess.Popen[str]
    home: Path
    run: Path
    env: dict[str, str]
    address: str
    token: str
    grandchild: int
    session: Path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home, run = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("run")
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2]), "SPCT_RUN": str(run), "TMPDIR": "/tmp"}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(run)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, umask=0o022
    ) as driver:  # its end of input ends it, whatever happens here
        assert driver.stdout is not None
        address, token, grandchild, session = driver.stdout.readline().split()
        yield Live(driver, home, run, env, address, token, int(grandchild), Path(session))


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


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another local user, which the superuser alone can")
@pytest.mark.parametrize("place", ["sockets", "logs", ".", ".."])
def test_another_local_user_is_shut_out_of_its_files(live: Live, place: str) -> None:
    """Ray makes them 0777: who is let in could overwrite files of ours through links, and listen in place of its sockets."""
    folder, before = live.session / place, sorted(live.session.iterdir())
    command = ["sh", "-c", ATTACK, "sh", str(folder)]
    done = subprocess.run(
        command, user=65534, group=65534, extra_groups=[], cwd="/", env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    answers = done.stderr.splitlines()
    assert len(answers) == 4, done.stdout + done.stderr
    assert all("Permission denied" in answer for answer in answers), done.stderr
    assert done.stdout == ""
    assert sorted(live.session.iterdir()) == before


def test_it_takes_no_port_that_another_ray_needs(live: Live) -> None:
    """A head that is started beside it has the default port of its agent; without an agent no job can be submitted. Its raylet
    is told which port the agent, that it starts later, listens on."""
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

    lines = set()
    for child in psutil.Process(live.driver.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended while we looked
            lines.add(" ".join(child.cmdline()))
    (ports,) = {found for line in lines if (found := tuple(re.findall(r"--listen-port=(\d+)", line)))}
    assert ports
    assert str(DEFAULT_DASHBOARD_AGENT_LISTEN_PORT) not in ports


def test_a_signal_to_the_drivers_process_group_reaches_none_of_it(live: Live) -> None:
    """As of a terminal, of `timeout` and of Slurm."""
    groups = set()
    for child in psutil.Process(live.driver.pid).children(recursive=True):
        with suppress(ProcessLookupError):  # it ended while we looked
            groups.add(os.getpgid(child.pid))
    assert groups
    assert os.getpgid(live.driver.pid) not in groups


def test_only_this_machine_and_only_with_the_token_reaches_it(live: Live) -> None:
    assert live.address.startswith("127.0.0.1:")
    addresses = listening(live.driver.pid)
    assert IPV6_LOOPBACK in addresses, "Ray's own daemons"
    assert addresses <= {IPV4_LOOPBACK, IPV6_LOOPBACK}

    def enter(**auth: str) -> str:
        asked = [sys.executable, "-c", STRANGER, live.address]
        done = subprocess.run(asked, env=live.env | auth, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.strip()

    assert enter(RAY_AUTH_MODE="disabled") == "AuthenticationError"
    assert enter(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64) == "AuthenticationError"
    assert enter(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=live.token) == "came in"


def test_nothing_outlives_it(live: Live) -> None:
    assert live.grandchild in mentioning(str(live.run))
    live.driver.communicate(timeout=120)
    assert live.driver.returncode == 0
    assert list(live.home.rglob("*")) == []
    assert not live.session.parent.parent.exists()
    assert not mentioning(str(live.run))


TWICE = """
import os, tempfile
from pathlib import Path
import ray
from launch.cluster.ray_session import start_own

for token in ("a" * 64, "b" * 64):
    os.environ["RAY_AUTH_TOKEN"] = token
    with tempfile.TemporaryDirectory() as folder:
        start_own(Path(folder), 100 << 20)
        ray.shutdown()
    print("started")
"""


def test_a_process_may_start_one_after_another_with_tokens_of_their_own() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], env=environment(), text=True, capture_output=True, timeout=240)
    assert done.stdout == "started\nstarted\n", done.stderr
