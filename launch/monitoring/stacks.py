"""Where a part is right now, line by line: it writes the stack of every thread into a file when it is sent SIGUSR1.

The signal would end a process that does not listen, so nobody is sent it who is not known to: a process id comes out of
Redis, may be old, and may belong to somebody else by now.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import socket
import time
from pathlib import Path
from typing import TextIO

from buffer.heartbeat import LastHeartbeat

ANSWER_S = 2.0
QUIET_S = 0.1  # an answer that has not grown for so long is whole

_files: list[TextIO] = []  # faulthandler writes to the descriptor, which must stay open


def listen(path: Path) -> None:
    """From now on SIGUSR1 appends the stack of every thread of this process to the file. Works while Python hangs in C."""
    _files.append(path.open("a", encoding="utf-8"))
    faulthandler.register(signal.SIGUSR1, file=_files[-1], all_threads=True, chain=False)


def ask(beat: LastHeartbeat, run: Path) -> str:
    """The stacks of a part of the run in folder `run`, or a sentence why there are none."""
    if beat.host != socket.gethostname():
        return f"it runs on {beat.host}: ask there"
    if not beat.stacks:
        return "it was not told where to write its stacks"
    try:
        process = os.pidfd_open(beat.pid)  # from here on no other process can be meant
    except ProcessLookupError:
        return f"process {beat.pid} is gone"
    try:
        return _ask(process, beat, run)
    except (FileNotFoundError, ProcessLookupError):
        return f"process {beat.pid} has just ended"
    except PermissionError:
        return f"process {beat.pid} is another user's"
    finally:
        os.close(process)


def _ask(process: int, beat: LastHeartbeat, run: Path) -> str:
    state = _state(beat.pid)
    if state in "Tt":
        return f"process {beat.pid} is stopped (state {state}): it can be let go on by kill -CONT {beat.pid}"
    if state in "ZX":
        return f"process {beat.pid} has ended (state {state})"
    file = Path(beat.stacks)
    if not _belongs(beat.pid, file, run):
        return f"process {beat.pid} is none of this run: the part has ended, and its number was given away"
    if not _listens(beat.pid):
        return f"process {beat.pid} does not listen for the signal yet"
    before = file.stat().st_size
    signal.pidfd_send_signal(process, signal.SIGUSR1)
    written = _grown(file, before)
    return written or f"process {beat.pid} (state {_state(beat.pid)}) wrote nothing within {ANSWER_S:.0f} s"


def _state(pid: int) -> str:
    """One letter, as ps shows it."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]


def _belongs(pid: int, file: Path, run: Path) -> bool:
    """By the environment that it was started with; the driver, which only gives it to others, by the file of this run
    that it holds open."""
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
        if error.errno in (errno.ENOENT, errno.ENXIO):  # closed since it was listed, or a file that is deleted
            return False
        raise


def _listens(pid: int) -> bool:
    """Whether the process catches SIGUSR1: it would die of it otherwise."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def _grown(file: Path, before: int) -> str:
    """What was written behind the first `before` bytes, once no more comes; "" when nothing has after a while."""
    deadline, quiet_since, size = time.monotonic() + ANSWER_S, time.monotonic(), before
    while time.monotonic() < deadline and (size == before or time.monotonic() - quiet_since < QUIET_S):
        time.sleep(0.02)
        if (now := file.stat().st_size) != size:
            size, quiet_since = now, time.monotonic()
    with file.open("rb") as stacks:
        stacks.seek(before)
        return stacks.read().decode(errors="replace")
