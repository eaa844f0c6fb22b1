"""status.py, against a real embedded server that was filled by hand."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buffer import streams
from buffer.heartbeat import Heartbeat
from buffer.server import EmbeddedServer
from buffer.streams import PROMPTS, ROLLOUTS, Address, ServerError, connect
from configs.load import ConfigError, dump, load
from launch import status
from launch.monitoring.lookup import locate_run
from launch.setup.run_config import load_resumed_config
from launch.setup.run_folder import lock_run_folder
from learner import checkpoint
from tests.buffer.run_by_hand import Run
from tests.launch.silent_process import CONFIG, silence
from tests.launch.whole_run import ROOT


def bury(run: Run, reason: str) -> None:
    run.issue(1)
    worker = run.consumer(PROMPTS, "rollout-0", claim_timeout_s=60)
    (entry,) = worker.claim(1, block_s=0)
    worker.dead_letter(entry, reason)


# ---- one report --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine", "runs/mine"])
def test_a_healthy_run(run: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert status.main(["--run", name]) == 0
    output = capsys.readouterr().out
    assert output.startswith(
        "run mine: policy version 0, 2 groups outstanding: 2 of version 0 (staleness 0)\nno bottleneck found\n"
    )
    rows = [line.split() for line in output.splitlines()]
    assert [row[0] for row in rows if len(row) > 1 and "@" in row[1]] == ["driver", "grpo-0", "reward-0", "rollout-0"]
    assert ["prompts", "rollout", "0", "2", "group", "0:", "rollout-0,"] in [row[:7] for row in rows]
    assert "\x1b" not in output


def test_the_bottleneck_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
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
    output = json.loads(capsys.readouterr().out)
    assert output["run_id"] == "mine"
    assert output["bottleneck"] is None
    assert output["outstanding"] == {"0": 0, "1": 0}
    assert output["heartbeats"]["rollout-0"]["pid"] == os.getpid()
    assert [(queue["stream"], queue["reader"], queue["pending"]) for queue in output["queues"]][:1] == [
        ("prompts", "rollout", 2)
    ]
    assert output["queues"][0]["claims"][1] | {"id": "", "age_s": 0, "since_s": 0} == {
        "id": "",
        "group": 1,
        "owner": "rollout-0",
        "age_s": 0,
        "since_s": 0,
        "deliveries": 1,
    }
    assert output["outcomes"]["issued"] == 2


def test_the_cold_start_has_streams_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    _, address = locate_run("mine")
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

WORKER = """
import sys, time
from pathlib import Path
from buffer.heartbeat import Heartbeat
from launch.monitoring.stacks import dump_on_signal
from launch.monitoring.lookup import locate_run
from launch.setup.run_folder import lock_run_folder
from launch.setup.run_config import load_resumed_config
dump_on_signal(Path(sys.argv[1]))
heartbeat = Heartbeat(locate_run("mine")[1], "rollout-1", every_s=0.1, hang_s=60, stacks=sys.argv[1])

def decode_endlessly():
    print("up", flush=True)
    time.sleep(60)

decode_endlessly()
"""


def test_stacks_of_the_processes_on_this_machine(home: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(home / "runs" / "mine" / "stacks.txt")]
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        silence(run, "reward-7")
        assert status.main(["--run", "mine", "--stacks"]) == 0
    finally:
        process.kill()
        process.communicate()
    output = capsys.readouterr().out
    assert "\nrollout-1\n  " in output
    assert " in decode_endlessly\n" in output
    assert "\nreward-7\n  it runs on node-b: use --stacks there" in output
    assert "\nrollout-0\n  it has no file for its stacks" in output


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


# ---- runs that have ended ------------------------------------------------------------------------------------------------


def left_behind(folder: Path, **summary: Any) -> Path:
    """A run that ended with this summary, or that was cut off without one."""
    policy = folder / "checkpoints" / "policy"
    for version in (40, 60):
        checkpoint.begin(policy, version)
        checkpoint.commit(policy, checkpoint.Record(version=version, entries=(), ranks=1, zero_stage=1), keep=2)
    (folder / "config.yaml").write_text(dump(CONFIG), encoding="utf-8")
    (folder / "driver.lock").touch()
    (folder / "run_state.json").write_text(json.dumps({"preset": "tiny", "version": 63, "seconds": {"total": 461.0}}))
    os.utime(folder / "run_state.json", (1_000_000, 1_000_000))
    if summary:
        (folder / "summary.json").write_text(json.dumps({"preset": "tiny", "seconds": {"total": 461.0}} | summary))
        os.utime(folder / "summary.json", (1_000_001, 1_000_001))
    return folder


def told(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines of its status by their names."""
    assert status.main(["--run", str(folder)]) == 0
    return {line[:10].strip(): line[11:] for line in capsys.readouterr().out.splitlines()}


def test_a_run_that_was_stopped_says_how_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = {"before": 0.53, "cold_start": 0.9, "after": None}
    lines = told(left_behind(tmp_path, finished="stopped", steps=63, accuracy=accuracy), capsys)
    assert lines["run"] == f"{tmp_path} (tiny)"
    assert lines["state"].startswith(f"was stopped at step 63 of {CONFIG.grpo.steps}, 1970-01-12 ")
    assert lines["state"].endswith(", after 7 min 41 s")
    assert lines["accuracy"] == "before 53.0%, cold start 90.0%"
    assert lines["checkpoint"] == f"step 60, {tmp_path / 'checkpoints' / 'latest'}"
    assert lines["go on"] == f"python launch/run.py --resume {tmp_path}"


def test_a_run_that_is_complete_says_where_its_judge_and_its_report_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_behind(tmp_path, finished="completed", steps=80)
    (tmp_path / "judge").mkdir()
    (tmp_path / "report.html").touch()
    lines = told(tmp_path, capsys)
    assert lines["state"].startswith("completed at step 80 of ")
    assert (lines["judge"], lines["report"]) == (str(tmp_path / "judge"), str(tmp_path / "report.html"))
    assert "go on" not in lines


def test_a_run_that_failed_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(left_behind(tmp_path, finished="failed", steps=3, error="the reward actor failed\x1b[2J"), capsys)
    assert lines["error"] == "the reward actor failed�[2J"


def test_a_run_that_was_killed_behind_an_earlier_end_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_behind(tmp_path, finished="stopped", steps=20)
    os.utime(tmp_path / "run_state.json", (2_000_000, 2_000_000))  # the try that went on had come further
    assert told(tmp_path, capsys)["state"].startswith("was cut off at step 63 of ")
    assert status.main(["--run", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "cut off"


def test_a_run_whose_driver_lives_has_not_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_behind(tmp_path, finished="stopped", steps=20)
    held = lock_run_folder(tmp_path)
    assert "is the run going on" in refused(capsys, "--run", str(tmp_path))
    os.close(held)
    told(tmp_path, capsys)


# ---- runs that cannot be looked at -----------------------------------------------------------------------------------


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
        _, address = locate_run(str(folder))
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
    folder, address = locate_run(str(tmp_path))
    assert (folder, address) == (tmp_path.resolve(), Address("redis://spct@127.0.0.1:1", tmp_path.name))


def test_the_password_of_the_environment_goes_to_no_strangers_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder came in an archive, so it is the user's own; its config names a server that listens for passwords."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (tmp_path / "config.yaml").write_text(dump(load("tiny", [f"redis.url=redis://127.0.0.1:{port}"])), encoding="utf-8")
        monkeypatch.setenv("SPCT_REDIS_PASSWORD", "my-cluster-password")
        assert f"set SPCT_REDIS_URL=redis://127.0.0.1:{port} as well" in refused(capsys, "--run", str(tmp_path))
        with pytest.raises(ServerError, match="would be sent"):
            load_resumed_config(tmp_path)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_an_access_file_that_leads_elsewhere_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "config.yaml").write_text(dump(CONFIG), encoding="utf-8")
    for url in ("redis://driver:pw@db.example", "unix:///run/theirs.sock", "redis://127.0.0.1:1"):
        (tmp_path / "redis" / "access").write_text(json.dumps({"url": url}), encoding="utf-8")
        assert "it names a server that no run has started here" in refused(capsys, "--run", str(tmp_path))


def test_a_run_is_located_by_its_id(home: Path, run: Run) -> None:
    folder, address = locate_run("mine")
    assert (folder, address.run_id) == ((home / "runs" / "mine").resolve(), "mine")
    with pytest.raises(ConfigError, match="no run there"):
        locate_run("other")
