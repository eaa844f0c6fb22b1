"""The processes that this one has started: found, waited for, killed. Each of them may end between any two looks at it."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import psutil

KILLED_S = 30.0  # a process that was killed frees its memory first, at the lowest priority


def children_named(part: str) -> list[psutil.Process]:
    """Returns the descendants of this process that run and whose name holds `part`."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if part in child.name() and runs(child):
                found.append(child)
    return found


def tree(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Returns the roots and their living descendants. Call it before the roots end: a process that outlives its parent is no
    longer listed as its child."""
    processes = []
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            processes += [root, *root.children(recursive=True)]
    return processes


def await_exit_or_kill(processes: Sequence[psutil.Process], *, grace_s: float) -> None:
    """Wait until all have ended; those that live after `grace_s` seconds get SIGKILL."""
    for process in _await_end(processes, grace_s):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _await_end(processes, KILLED_S)


def runs(process: psutil.Process) -> bool:
    """Whether it still runs. A zombie has ended, although nobody may reap it (as in a container)."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _await_end(processes: Iterable[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Returns those that run after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while left := [process for process in processes if runs(process)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return []
