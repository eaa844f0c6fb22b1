"""Cores of a server whose engines compute on CPU: the engines have some for themselves, one each.

Else whatever wakes up takes the core from an engine, a thousand times a second on two cores that it shares with the proxy, HTTP
workers, the judge and the store: it then waits for a tenth of the time.
"""

import os
from collections.abc import Collection
from contextlib import suppress

import psutil


def engine_cores(engines: int, *, port: int) -> tuple[int, ...]:
    """Returns the cores for engines; none where there are no more cores than engines, or processes cannot be bound to any. They
    are counted from a server's port, so that two servers of a machine rarely choose the same."""
    if not hasattr(os, "sched_getaffinity"):  # no Linux
        return ()
    cores = sorted(os.sched_getaffinity(0))
    first = port % len(cores)
    return tuple((cores[first:] + cores[:first])[:engines]) if len(cores) > engines else ()


def leave(cores: Collection[int]) -> None:
    """Bind this process and all that it has started to the other cores, thread by thread, but for engines, which have bound
    themselves. What is started later inherits that."""
    others = set(os.sched_getaffinity(0)).difference(cores)
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error, ProcessLookupError):  # it has ended meanwhile
            for thread in process.threads():
                if not os.sched_getaffinity(thread.id) <= set(cores):
                    os.sched_setaffinity(thread.id, others)
