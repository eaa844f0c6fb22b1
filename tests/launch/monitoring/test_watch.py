"""Two looks at a run, and the live view of status.py."""

import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from launch import status
from launch.monitoring import watch
from launch.monitoring.diagnosis import Bottleneck, Diagnosis, diagnose_run
from launch.monitoring.snapshot import RunSnapshot
from tests.buffer.run_by_hand import Run
from tests.launch.silent_process import CONFIG, silence
from tests.launch.whole_run import ROOT


def test_a_bottleneck_of_one_look_is_none() -> None:
    snapshot = RunSnapshot(run_id="r", outcomes={"issued": 4, "trained": 2})
    blamed = Diagnosis(snapshot=snapshot, bottleneck=Bottleneck(process="grpo-0", reason="idle"))
    assert watch.confirm(blamed, blamed) == blamed
    other = replace(blamed, bottleneck=Bottleneck(process="driver", reason="issues no prompts"))
    assert watch.confirm(blamed, other).bottleneck is None
    assert watch.confirm(replace(blamed, bottleneck=None), blamed).bottleneck is None
    moved = replace(blamed, snapshot=replace(snapshot, outcomes={"issued": 5, "trained": 2}))
    assert watch.confirm(blamed, moved).bottleneck is None
    at_work = replace(blamed, bottleneck=Bottleneck(process="grpo-0", reason="busy (train)", busy=True))
    assert watch.confirm(blamed, at_work) == at_work


def test_the_view_shows_processes_streams_staleness_and_what_happened(run: Run) -> None:
    before = diagnose_run(run.client, run.run_id, CONFIG).snapshot
    run.issue(1)
    silence(run, "rollout-[red]1[/]")
    now = diagnose_run(run.client, run.run_id, CONFIG)
    console = Console(file=io.StringIO(), width=160, record=True)
    console.print(watch.view(now, before, CONFIG))
    text = console.export_text()
    assert "mine  policy version 0" in text
    assert any(line.startswith("rollout-[red]1[/]  4711@node-b") for line in text.splitlines()), "no cell is markup"
    assert "3 groups outstanding: 3 of version 0 (staleness 0)" in text
    assert "in the last 1 s: issued +1\n" in text
    assert "since the run began: issued 3, trained 0" in text
    (row,) = [line for line in text.splitlines() if line.startswith("prompts")]
    assert row.split()[:4] == ["prompts", "rollout", "1", "2"]


def test_watch_needs_a_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--run", "mine", "--watch"]) == 2
    assert "--watch needs a terminal" in capsys.readouterr().err


def test_watch_looks_again_until_ctrl_c(home: Path, run: Run) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    command = [sys.executable, str(ROOT / "launch" / "status.py"), "--run", "mine", "--watch"]
    watching = subprocess.Popen(
        command, cwd=home, env=os.environ | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        _read_until(ours, b"2 groups outstanding")
        run.issue(1)
        _read_until(ours, b"3 groups outstanding")
        watching.send_signal(signal.SIGINT)
        _read_until(ours, b"\x1b[?1049l")  # the screen is given back
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(ours)


def _read_until(terminal: int, wanted: bytes) -> None:
    deadline, output = time.monotonic() + 60, b""
    while wanted not in output:
        assert time.monotonic() < deadline, output.decode(errors="replace")
        output += os.read(terminal, 65536)
