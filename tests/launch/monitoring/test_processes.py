"""Real processes, some of which have ended between two looks at them: psutil raises then, at every question."""

import subprocess
from collections.abc import Iterator

import psutil
import pytest

from launch.monitoring import processes


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    with subprocess.Popen(["sleep", "600"]) as started:
        yield psutil.Process(started.pid)
        started.kill()


@pytest.fixture
def ended() -> psutil.Process:
    with subprocess.Popen(["sleep", "600"]) as started:
        process = psutil.Process(started.pid)
        started.kill()
    return process


@pytest.fixture
def zombie() -> Iterator[psutil.Process]:
    """Ended, and not reaped."""
    with subprocess.Popen(["sleep", "600"]) as started:
        process = psutil.Process(started.pid)
        started.kill()
        while process.status() != psutil.STATUS_ZOMBIE:
            pass
        yield process


def test_those_that_run_are_found_by_name(
    sleeper: psutil.Process, ended: psutil.Process, zombie: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processes.children_named("sleep") == [sleeper]
    assert processes.children_named("wandb") == []
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [ended, zombie, sleeper])
    assert processes.children_named("sleep") == [sleeper], "one that ends while we look is left out"


def test_a_tree_is_of_the_living(sleeper: psutil.Process, ended: psutil.Process) -> None:
    assert processes.tree([ended, sleeper]) == [sleeper]
    assert sleeper in processes.tree([psutil.Process()])


def test_an_ended_process_is_not_waited_for(ended: psutil.Process, zombie: psutil.Process) -> None:
    assert not processes.runs(ended)
    assert not processes.runs(zombie)
    processes.await_exit_or_kill([ended, zombie], grace_s=600)


def test_those_that_stay_are_killed(sleeper: psutil.Process) -> None:
    processes.await_exit_or_kill([sleeper], grace_s=0)
    assert not processes.runs(sleeper)
