"""The entry, against a real embedded server that was filled by hand."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from buffer import streams
from buffer.heartbeat import Heartbeat
from buffer.rollout_target import rollout_target
from buffer.server import EmbeddedServer
from buffer.streams import PROMPTS, ROLLOUTS, Address, connect
from configs.load import ConfigError, dump, load
from launch import scale, status
from launch.monitoring.diagnosis import Bottleneck, Diagnosis, diagnose_run
from launch.monitoring.snapshot import RunSnapshot
from tests.buffer.run_by_hand import Run
from tests.launch.whole_run import ROOT

CONFIG = load("tiny", ["grpo.batch_groups=2", "grpo.max_staleness=1", "waits.heartbeat_s=1", "redis.claim_timeout_s=60"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run in ./runs/mine whose server is up."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(CONFIG), encoding="utf-8")
    with EmbeddedServer(folder / "redis"):
        yield home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """At version 0, two groups of four outstanding, both claimed by rollout-0; the driver, the learner and rollout-0 beat."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("SPCT_RUN", str(home / "runs" / "mine"))
    _, address = status.locate_run("mine")
    client = connect(address)
    streams.setup(client, address.run_id, meta_rm=False)
    run = Run(client, address.run_id)
    run.issue(2)
    run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60).claim(2, block_s=0)
    processes = [Heartbeat(address, name, every_s=0.1, hang_s=60) for name in ("driver", "grpo-0", "reward-0", "rollout-0")]
    yield run
    for process in processes:
        process.stop()
    streams.remove(client, address.run_id)
    client.close()


def silence(run: Run, name: str, seconds: float = 30) -> None:
    """A process that beat last so long ago."""
    said = {"host": "node-b", "pid": 4711, "activity": "roll out", "stuck_s": 0, "version": 0, "done": 1, "stacks": ""}
    run.client.hset(streams.key(run.run_id, "heartbeats"), name, f"{time.time() - seconds} {json.dumps(said)}")


def bury(run: Run, reason: str) -> None:
    run.issue(1)
    worker = run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60)
    (entry,) = worker.claim(1, block_s=0)
    worker.dead_letter(entry, reason)


# ---- one report --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine", "runs/mine"])
def test_a_healthy_run(run: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert status.main(["--run", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "run mine: policy version 0, 2 groups outstanding: 2 of version 0 (staleness 0)\nno bottleneck found\n"
    )
    rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows if len(row) > 1 and "@" in row[1]] == ["driver", "grpo-0", "reward-0", "rollout-0"]
    assert ["prompts", "rollout", "0", "2", "group", "0:", "rollout-0,"] in [row[:7] for row in rows]
    assert "\x1b" not in said


def test_the_culprit_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    worker = run.consumer(PROMPTS, "rollout-1", claim_timeout_s=60)
    run.issue(1)
    worker.claim(1, block_s=0)
    silence(run, "rollout-1")
    assert status.main(["--run", "mine"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("held up by rollout-1: silent for 3")
    assert line.endswith("it holds 1 group of prompts, the oldest is group 2")


def test_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--run", "mine", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run_id"] == "mine"
    assert said["bottleneck"] is None
    assert said["outstanding"] == {"0": 0, "1": 0}
    assert said["heartbeats"]["rollout-0"]["pid"] == os.getpid()
    assert [(queue["stream"], queue["reader"], queue["pending"]) for queue in said["queues"]][:1] == [("prompts", "rollout", 2)]
    assert said["queues"][0]["claims"][1] | {"id": "", "age_s": 0, "since_s": 0} == {
        "id": "",
        "group": 1,
        "owner": "rollout-0",
        "age_s": 0,
        "since_s": 0,
        "deliveries": 1,
    }
    assert said["outcomes"]["issued"] == 2


def test_the_cold_start_has_streams_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    _, address = status.locate_run("mine")
    cold = replace(address, run_id="mine.cold-start")
    with connect(cold) as client:
        streams.setup(client, cold.run_id, meta_rm=False)
        Run(client, cold.run_id).issue(1)
        heartbeat = Heartbeat(cold, "driver", every_s=0.1, hang_s=60)
        assert status.main(["--run", "mine"]) == 0
        heartbeat.stop()
        streams.remove(client, cold.run_id)
    assert capsys.readouterr().out.startswith("run mine.cold-start: policy version 0, 1 group outstanding")


# ---- stacks ------------------------------------------------------------------------------------------------------

PART = """
import sys, time
from pathlib import Path
from buffer.heartbeat import Heartbeat
from launch.monitoring.stacks import listen
from launch.monitoring.lookup import locate_run
listen(Path(sys.argv[1]))
heartbeat = Heartbeat(locate_run("mine")[1], "rollout-1", every_s=0.1, hang_s=60, stacks=sys.argv[1])

def decode_for_ever():
    print("up", flush=True)
    time.sleep(60)

decode_for_ever()
"""


def test_stacks_of_the_parts_on_this_machine(home: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PART, str(home / "stacks.txt")]
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        silence(run, "reward-7")
        assert status.main(["--run", "mine", "--stacks"]) == 0
    finally:
        process.kill()
        process.communicate()
    said = capsys.readouterr().out
    assert "\nrollout-1\n  " in said
    assert " in decode_for_ever\n" in said
    assert "\nreward-7\n  it runs on node-b: use --stacks there" in said
    assert "\nrollout-0\n  it has no file for its stacks" in said


# ---- dead letters ------------------------------------------------------------------------------------------------


def test_dead_letters_with_their_reasons(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--run", "mine", "--dead"]) == 0
    assert capsys.readouterr().out == "no dead letters\n"
    bury(run, "no label for preference '\x1b[2Jx\u202e'\nprompts 9 9 all is well")
    run.client.xadd(streams.key(run.run_id, ROLLOUTS), {"z": b"\x1b"})
    run.consumer(ROLLOUTS, "reward-0").claim(1, block_s=0)
    assert status.main(["--run", "mine", "--dead"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["stream", "entry", "group", "bytes", "reason"]
    assert first.split()[0] == "prompts"
    assert first.endswith("2      8      no label for preference '�[2Jx�' prompts 9 9 all is well")
    assert second.split()[0] == "rollouts"
    assert "malformed entry" in second
    assert status.main(["--run", "mine", "--dead", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(letter["stream"], letter["group"]) for letter in listed] == [("prompts", "2"), ("rollouts", "None")]


# ---- at the door -------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence of an exit status 2."""
    assert status.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_no_such_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    for name in ("mine", "empty", "../.."):
        assert f"--run {name}: no run there" in refused(capsys, "--run", name)


def test_a_run_that_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(CONFIG), encoding="utf-8")
    assert "is the run going on" in refused(capsys, "--run", str(folder))
    with EmbeddedServer(folder / "redis"):
        left = (folder / "redis" / "access").read_bytes()
        assert "has no streams" in refused(capsys, "--run", str(folder))
        _, address = status.locate_run(str(folder))
        with connect(address) as client:
            streams.setup(client, "mine", meta_rm=False)
        assert "no process of it has a heartbeat" in refused(capsys, "--run", str(folder))
    (folder / "redis" / "access").write_bytes(left)  # as after a kill -9
    assert "is not reachable" in refused(capsys, "--run", str(folder))


def test_a_folder_that_no_run_can_have_made(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "not a run"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(CONFIG), encoding="utf-8")
    (folder / "redis").symlink_to(home / "runs" / "mine" / "redis")
    assert "not the folder of a run: run id 'not a run'" in refused(capsys, "--run", str(folder))


def test_a_config_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("modle: {path: tiny}", encoding="utf-8")
    assert "unknown key modle: did you mean model?" in refused(capsys, "--run", str(tmp_path))


def test_the_password_of_an_own_server_comes_from_the_environment(tmp_path: Path) -> None:
    config = load("tiny", ["redis.url=redis://spct:secret@127.0.0.1:1"])
    (tmp_path / "config.yaml").write_text(dump(config), encoding="utf-8")
    folder, address = status.locate_run(str(tmp_path))
    assert (folder, address) == (tmp_path.resolve(), Address("redis://spct@127.0.0.1:1", tmp_path.name))


# ---- more workers, or fewer ------------------------------------------------------------------------------------------


def test_a_wish_for_workers_is_kept_for_the_driver(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--run", "mine", "--rollouts", "3"]) == 0
    assert "rollout workers: 1 -> 3 (" in capsys.readouterr().out
    assert rollout_target(run.client, run.run_id) == 3
    assert scale.main(["--run", "mine", "--rollouts", "0"]) == 2
    assert "--rollouts 0: expected 1 or more" in capsys.readouterr().err


def test_a_wish_during_the_cold_start_says_when_it_is_fulfilled(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for key in [*run.client.scan_iter("spct:*")]:
        run.client.rename(key, key.replace(b"{mine}", b"{mine.cold-start}"))
    assert scale.main(["--run", "mine", "--rollouts", "3"]) == 0
    assert "1 -> 3 when training begins: the cold start goes on as it is" in capsys.readouterr().out
    assert rollout_target(run.client, "mine") == 3
    streams.remove(run.client, "mine.cold-start")


def test_a_run_that_has_ended_gets_no_workers(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert scale.main(["--run", "mine", "--rollouts", "3"]) == 2
    assert "it is starting, or not running" in capsys.readouterr().err


# ---- the live view -----------------------------------------------------------------------------------------------


def test_a_culprit_of_one_look_is_none() -> None:
    snapshot = RunSnapshot(run_id="r", outcomes={"issued": 4, "trained": 2})
    blamed = Diagnosis(snapshot=snapshot, bottleneck=Bottleneck(process="grpo-0", reason="idle"))
    assert status.confirm(blamed, blamed) == blamed
    other = replace(blamed, bottleneck=Bottleneck(process="driver", reason="issues no prompts"))
    assert status.confirm(blamed, other).bottleneck is None
    assert status.confirm(replace(blamed, bottleneck=None), blamed).bottleneck is None
    moved = replace(blamed, snapshot=replace(snapshot, outcomes={"issued": 5, "trained": 2}))
    assert status.confirm(blamed, moved).bottleneck is None
    at_work = replace(blamed, bottleneck=Bottleneck(process="grpo-0", reason="busy (train)", busy=True))
    assert status.confirm(blamed, at_work) == at_work


def test_the_view_shows_parts_streams_staleness_and_what_happened(run: Run) -> None:
    before = diagnose_run(run.client, run.run_id, CONFIG).snapshot
    run.issue(1)
    silence(run, "rollout-[red]1[/]")
    now = diagnose_run(run.client, run.run_id, CONFIG)
    console = Console(file=io.StringIO(), width=160, record=True)
    console.print(status.view(now, before, CONFIG))
    text = console.export_text()
    assert "mine  policy version 0" in text
    assert any(line.startswith("rollout-[red]1[/]  4711@node-b") for line in text.splitlines()), "no cell is markup"
    assert "3 groups outstanding: 3 of version 0 (staleness 0)" in text
    assert "since the last inspect_run: issued +1\n" in text
    assert "in all: issued 3, trained 0" in text
    (row,) = [line for line in text.splitlines() if line.startswith("prompts")]
    assert row.split()[:4] == ["prompts", "rollout", "1", "2"]


def test_watch_wants_a_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--watch wants a terminal" in refused(capsys, "--run", "mine", "--watch")


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
        assert watching.wait(10) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(ours)


def _read_until(terminal: int, wanted: bytes) -> None:
    deadline, said = time.monotonic() + 60, b""
    while wanted not in said:
        assert time.monotonic() < deadline, said.decode(errors="replace")
        said += os.read(terminal, 65536)


def test_where_is_what_scale_uses_too(home: Path, run: Run) -> None:
    folder, address = status.locate_run("mine")
    assert (folder, address.run_id) == ((home / "runs" / "mine").resolve(), "mine")
    with pytest.raises(ConfigError, match="no run there"):
        status.locate_run("other")
