"""Where a process of the run is right now, line by line.

Each process registers a handler: on SIGUSR1 it writes the stack of every thread into a file. The default action of the
signal is to end a process, so it is sent only to one that is known to have the handler. A process id comes from Redis, may
be old, and may belong to another process by now.
"""

import errno
import faulthandler
import os
import signal
import socket
import time
from pathlib import Path
from typing import TextIO

from buffer.heartbeat import LastHeartbeat

ANSWER_S = 2.0  # for the process to write
QUIET_S = 0.1  # an answer that has not grown for so long is complete

_files: list[TextIO] = []  # faulthandler writes to the descriptor, which must stay open


def dump_on_signal(path: Path) -> None:
    """Register the handler: SIGUSR1 appends the stack of every thread to the file, even while Python hangs in C."""
    _files.append(path.open("a", encoding="utf-8"))
    faulthandler.register(signal.SIGUSR1, file=_files[-1], all_threads=True, chain=False)


def read_stacks(heartbeat: LastHeartbeat, run: Path) -> str:
    """Returns the stacks of a process, or a sentence that explains why there are none.

    Args:
        heartbeat: the process' last heartbeat.
        run: the folder of the run that the process must belong to.
    """
    if heartbeat.host != socket.gethostname():
        return f"it runs on {heartbeat.host}: use --stacks there"
    if not heartbeat.stacks:
        return "it has no file for its stacks"
    try:
        process = os.pidfd_open(heartbeat.pid)  # from here on no other process can be meant
    except ProcessLookupError:
        return f"process {heartbeat.pid} is gone"
    try:
        return _signal_and_read(process, heartbeat, run)
    except (FileNotFoundError, ProcessLookupError):
        return f"process {heartbeat.pid} has just ended"
    except PermissionError:
        return f"process {heartbeat.pid} belongs to another user"
    finally:
        os.close(process)


def _signal_and_read(process: int, heartbeat: LastHeartbeat, run: Path) -> str:
    pid, file = heartbeat.pid, Path(heartbeat.stacks)
    state = _state(pid)
    if state in "Tt":
        return f"process {pid} is stopped (state {state}); continue it with kill -CONT {pid}"
    if state in "ZX":
        return f"process {pid} has ended (state {state})"
    if not _belongs(pid, file, run):
        return f"process {pid} does not belong to this run: the run's process has exited and its PID was reused"
    if not _handles_signal(pid):
        return f"process {pid} has not registered its handler for SIGUSR1 yet"
    before = file.stat().st_size
    signal.pidfd_send_signal(process, signal.SIGUSR1)
    written = _read_appended(file, before)
    return written or f"process {pid} (state {_state(pid)}) wrote nothing within {ANSWER_S:.0f} s"


def _state(pid: int) -> str:
    """Returns one letter, as ps shows it."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]


def _belongs(pid: int, file: Path, run: Path) -> bool:
    """Whether the process belongs to the run.

    Its initial environment decides. The driver, which sets SPCT_RUN only for the processes that it starts, is recognised by
    the file of this run that it holds open.
    """
    run = run.resolve()
    for setting in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        name, _, value = setting.partition(b"=")
        if name == b"SPCT_RUN":
            return Path(os.fsdecode(value)).resolve() == run
    return file.resolve().is_relative_to(run) and any(_same(link, file) for link in Path(f"/proc/{pid}/fd").iterdir())


def _same(link: Path, file: Path) -> bool:
    try:
        return link.samefile(file)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO):  # closed since it was listed, or a deleted file
            return False
        raise


def _handles_signal(pid: int) -> bool:
    """Whether the process catches SIGUSR1: the signal would end it otherwise."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def _read_appended(file: Path, before: int) -> str:
    """Wait until the file stops growing beyond `before` bytes; returns what was appended, "" after ANSWER_S without any."""
    deadline, quiet_since, size = time.monotonic() + ANSWER_S, time.monotonic(), before
    while time.monotonic() < deadline and (size == before or time.monotonic() - quiet_since < QUIET_S):
        time.sleep(0.02)
        if (now := file.stat().st_size) != size:
            size, quiet_since = now, time.monotonic()
    with file.open("rb") as stacks:
        stacks.seek(before)
        return stacks.read().decode(errors="replace")
