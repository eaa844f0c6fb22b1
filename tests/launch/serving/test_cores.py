"""Which cores engines have for themselves, and that all else leaves them. Processes are real."""

import os
import subprocess
import sys

import psutil
import pytest

from launch.serving import cores
from tests.launch.whole_run import ROOT

CORES = sorted(os.sched_getaffinity(0))
# Two children with a thread beside their first one; the second is an engine's, bound to its core. Prints the cores of threads.
LEAVING = """
import os, subprocess, sys, psutil
from launch.serving.cores import leave
core = int(sys.argv[1])
child = "import os, threading, time; {}; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
child += "; print(1, flush=True); time.sleep(60)"
bound = f"os.sched_setaffinity(0, [{core}])"
children = [subprocess.Popen([sys.executable, "-c", child.format(first)], stdout=subprocess.PIPE) for first in ("pass", bound)]
for each in children:
    each.stdout.readline()
leave([core])
for process in (psutil.Process(), *map(psutil.Process, (each.pid for each in children))):
    print(sorted({tuple(sorted(os.sched_getaffinity(thread.id))) for thread in process.threads()}))
sys.stdout.flush()
subprocess.run([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"], check=True)
for each in children:
    each.kill()
"""


@pytest.mark.parametrize(
    ("mine", "engines", "port", "found"),
    [
        ({0, 1}, 1, 8000, (0,)),
        ({0, 1}, 1, 8001, (1,)),
        ({2, 3, 5, 9}, 2, 8003, (9, 2)),
        ({0, 1}, 2, 8000, ()),
        ({4}, 1, 8000, ()),
        ({0, 1}, 3, 8000, ()),
    ],
)
def test_each_engine_has_a_core_where_one_is_left_for_all_else(
    monkeypatch: pytest.MonkeyPatch, mine: set[int], engines: int, port: int, found: tuple[int, ...]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: mine)
    assert cores.engine_cores(engines, port=port) == found


@pytest.mark.skipif(len(CORES) < 2, reason="one core")
def test_all_that_was_started_leaves_the_engines_cores_and_so_does_what_comes_later() -> None:
    mine, others = CORES[-1], CORES[:-1]
    ended = subprocess.run(
        [sys.executable, "-c", LEAVING, str(mine)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    assert ended.stdout.splitlines() == [str([tuple(others)]), str([tuple(others)]), str([(mine,)]), str(others)]


def test_a_process_that_ends_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: psutil.Process) -> list[object]:
        raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil.Process, "threads", gone)
    cores.leave(CORES)
