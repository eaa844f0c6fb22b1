"""Stacks of real processes: running, hanging in C, stopped, gone, and not of this run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buffer.heartbeat import LastHeartbeat
from launch.monitoring import stacks
from tests.launch.whole_run import ROOT

WORKER = """
import ctypes, sys, threading, time
from pathlib import Path
from launch.monitoring.stacks import dump_on_signal

def wait_for_prompts():
    print("up", flush=True)
    if "hang" in sys.argv:
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock: no Python code runs any more
    time.sleep(60)

def send_heartbeats():
    sending.set()
    time.sleep(60)

sending = threading.Event()

if "without-handler" not in sys.argv:
    dump_on_signal(Path(sys.argv[1]))
threading.Thread(target=send_heartbeats, daemon=True).start()
sending.wait()
wait_for_prompts()
"""

Start = Callable[..., LastHeartbeat]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "stacks").mkdir(parents=True)
    return run


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a worker that belongs to `run`, and waits until it is up."""
    started: list[subprocess.Popen[str]] = []

    def begin(*how: str, run: Path | None = folder) -> LastHeartbeat:
        file = folder / "stacks" / f"rollout-{len(started)}.txt"
        file.touch()
        environment = {name: value for name, value in os.environ.items() if name != "SPCT_RUN"} | {"PYTHONPATH": str(ROOT)}
        if run is not None:
            environment["SPCT_RUN"] = str(run)
        command = [sys.executable, "-c", WORKER, str(file), *how]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return heartbeat(process.pid, file)

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def heartbeat(pid: int, file: Path | str, host: str | None = None) -> LastHeartbeat:
    return LastHeartbeat(
        name="rollout-0",
        host=host or socket.gethostname(),
        pid=pid,
        age_s=0.1,
        activity="roll out",
        stuck_s=0.0,
        version=0,
        done=0,
        stacks=str(file),
    )


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_every_thread_is_shown_where_it_is(start: Start, folder: Path) -> None:
    worker = start()
    text = stacks.read_stacks(worker, folder)
    assert "in wait_for_prompts" in text
    assert "in send_heartbeats" in text
    assert text.count("most recent call first") == 2
    again = stacks.read_stacks(worker, folder)
    assert again.count("most recent call first") == 2, "only what is new"
    assert alive(worker.pid)


def test_a_process_that_hangs_in_c_with_the_interpreters_lock_answers(start: Start, folder: Path) -> None:
    worker = start("hang")
    time.sleep(0.2)
    assert "in wait_for_prompts" in stacks.read_stacks(worker, folder)


def test_a_stopped_process_is_reported_as_stopped(start: Start, folder: Path) -> None:
    worker = start()
    os.kill(worker.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while "is stopped (state T)" not in (text := stacks.read_stacks(worker, folder)):
        assert time.monotonic() < deadline, text
    assert f"kill -CONT {worker.pid}" in text
    os.kill(worker.pid, signal.SIGCONT)
    assert "in wait_for_prompts" in stacks.read_stacks(worker, folder)


def test_an_ended_process_is_reported_as_ended(start: Start, folder: Path) -> None:
    worker = start()
    os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while alive(worker.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert stacks.read_stacks(worker, folder) == f"process {worker.pid} has ended (state Z)"
    os.waitpid(worker.pid, 0)
    assert stacks.read_stacks(worker, folder) == f"process {worker.pid} is gone"


@pytest.mark.parametrize("run", [None, Path("/another/run")])
def test_a_process_of_no_run_or_of_another_is_left_alone(start: Start, folder: Path, tmp_path: Path, run: Path | None) -> None:
    stranger = start("without-handler", run=run)  # the signal would end it
    assert "does not belong to this run" in stacks.read_stacks(stranger, folder)
    with_handler = start(run=run)
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.touch()
    assert "does not belong to this run" in stacks.read_stacks(heartbeat(with_handler.pid, elsewhere), folder)
    time.sleep(0.1)
    assert alive(stranger.pid)
    assert Path(with_handler.stacks).read_text() == ""


def test_a_file_outside_of_the_run_is_not_read_whichever_process_names_it(start: Start, folder: Path, tmp_path: Path) -> None:
    """The path comes from Redis, where any worker may write it."""
    worker, secret = start(), tmp_path / "secret.txt"
    secret.touch()
    (folder / "stacks" / "link.txt").symlink_to(secret)
    for file in (secret, folder / "stacks" / "link.txt"):
        assert "does not belong to this run" in stacks.read_stacks(heartbeat(worker.pid, file), folder)


def test_the_handlers_file_is_private_and_no_link(tmp_path: Path) -> None:
    stacks.dump_on_signal(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link.txt").symlink_to(tmp_path / "target.txt")
    with pytest.raises(OSError, match="is a link"):
        stacks.dump_on_signal(tmp_path / "link.txt")
    assert not (tmp_path / "target.txt").exists()


def test_a_process_of_the_run_without_the_handler_is_left_alone(start: Start, folder: Path) -> None:
    worker = start("without-handler")
    assert "has not registered its handler" in stacks.read_stacks(worker, folder)
    time.sleep(0.1)
    assert alive(worker.pid)


def test_the_driver_is_recognised_by_its_open_file(start: Start, folder: Path) -> None:
    """It sets SPCT_RUN for the processes that it starts; its own environment was fixed before."""
    assert "in wait_for_prompts" in stacks.read_stacks(start(run=None), folder)


def test_the_run_may_be_named_by_another_path(start: Start, folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(folder)
    assert "in wait_for_prompts" in stacks.read_stacks(start(), link)


def test_a_process_on_another_machine_is_reported_with_its_host(folder: Path) -> None:
    assert stacks.read_stacks(heartbeat(1, folder / "x", host="node-b"), folder) == "it runs on node-b: use --stacks there"


def test_a_process_without_a_file_is_reported(folder: Path) -> None:
    assert stacks.read_stacks(heartbeat(os.getpid(), ""), folder) == "it has no file for its stacks"


def test_another_users_process_is_left_alone() -> None:
    """Root may look into every process, so it plays another user here; others look at the first process, which is root's."""
    run = Path("/nowhere/run")
    with subprocess.Popen(["sleep", "60"]) as roots:
        pid = 1 if os.geteuid() else roots.pid
        try:
            with nobody():
                said = stacks.read_stacks(heartbeat(pid, run / "stacks" / "x.txt"), run)
        finally:
            roots.kill()
    assert said == f"process {pid} belongs to another user"


@contextmanager
def nobody() -> Iterator[None]:
    """Takes the superuser's rights from this process meanwhile, if it has them."""
    if os.geteuid():
        yield
        return
    os.setresuid(65534, 65534, 0)  # the saved user is the way back
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_the_wait_for_a_process_that_writes_nothing_is_limited(start: Start, folder: Path) -> None:
    worker = start()
    other = folder / "stacks" / "other.txt"
    other.touch()
    began = time.monotonic()
    text = stacks.read_stacks(heartbeat(worker.pid, other), folder)  # it writes, but elsewhere
    assert "wrote nothing within 2 s" in text
    assert stacks.ANSWER_S <= time.monotonic() - began < stacks.ANSWER_S + 10
