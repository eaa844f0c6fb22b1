import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from launch.monitoring import processes, tracker
from launch.monitoring.metrics import METRICS, MetricError
from launch.monitoring.tracker import SampleJudgement, Tracker
from launch.monitoring.wandb_check import Mode, chosen_mode
from tests import wandb_file

LONG = "two blocks and more " * 4000  # a record of the .wandb file then spans three blocks

SAMPLE = SampleJudgement(
    when="before",
    version=0,
    preference="p1",
    query="<b>why?</b>",
    responses=("one", "two \u202e\ud800"),
    label=1,
    principles="brevity",
    critique="two is short",
    scores=(3, 8),
    reward=1.0,
)


def value_of(name: str) -> float:
    """Returns a different value for each name."""
    return float(sorted(METRICS).index(name) + 1)


def full_record(suffix: str = "8") -> dict[str, float]:
    """Returns every metric except the one that the tracker adds."""
    return {name.replace("@k", f"@{suffix}"): value_of(name) for name in METRICS if name != "time/elapsed_s"}


@pytest.fixture
def no_wandb_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run folder with an offline W&B run of three records, two sample tables and a summary (W&B is started once)."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("SPCT_REDIS_PASSWORD", "correct horse")
        config = {
            "grpo": {"steps": 3},
            "redis": {"url": "rediss://u:pw@host:1/0", "note": "not the correct horse"},
            "long": LONG,
        }
        tracker = Tracker(folder, "run-1", config, "spct-test", "auto")
        assert tracker.mode == "offline"
        started = processes.children_named("wandb")
        assert {service.name() for service in started} == {"wandb-core", "wandb-symon"}
        tracker.log(full_record())
        tracker.log({"learner/version": 2, "loss/kl": math.nan, "rollout/workers": 2})
        tracker.log({"eval/version": 2, "eval/accuracy@1": np.float32(0.5)})
        tracker.samples([SAMPLE])
        tracker.samples([])
        tracker.alert("look", "at correct horse")
        (folder / "cold_start" / "model").mkdir(parents=True)
        (folder / "cold_start" / "model" / "judge.json").write_text("{}")
        tracker.artifact("model", folder / "cold_start" / "model", ["judge.json", "README.md"], ["run-inputs"])
        tracker.finish({"finished": "completed", "accuracy": {"before": 0.5, "after": None}})
        assert not any(map(processes.runs, started))
        yield folder


def test_offline_file_holds_every_metric_with_its_value(tracked: Path) -> None:
    run = wandb_file.read(wandb_file.find(tracked))
    assert run.whole
    assert (run.run_id, run.project, run.exit_code) == ("run-1", "spct-test", 0)
    for name, value in full_record().items():
        assert run.series(name)[0] == value
    assert math.isnan(run.series("loss/kl")[1])
    assert run.series("eval/accuracy@1") == [0.5]
    assert len(run.series("time/elapsed_s")) == 3


def test_offline_file_plots_each_metric_over_its_axis(tracked: Path) -> None:
    steps = wandb_file.read(wandb_file.find(tracked)).step_metrics
    axes = {entry.axis for entry in METRICS.values()}
    assert steps == {name.replace("@k", "@*"): "" if name in axes else entry.axis for name, entry in METRICS.items()}


def test_offline_file_holds_no_secret(tracked: Path) -> None:
    run = wandb_file.read(wandb_file.find(tracked))
    assert run.config["long"] == LONG
    assert run.config["redis"] == {"url": "rediss://***@host:1/0", "note": "not the ***"}
    everything = b"".join(path.read_bytes() for path in tracked.rglob("*") if path.is_file())
    assert b"correct horse" not in everything
    assert b"u:pw" not in everything


def test_a_run_has_its_group_job_type_alerts_and_artifacts(tracked: Path) -> None:
    run = wandb_file.read(wandb_file.find(tracked))
    assert (run.group, run.job_type) == ("run-1", "train")
    assert run.alerts == {"look": "at ***"}
    model = tracked / "cold_start" / "model"
    assert {name: found for name, found in run.artifacts.items() if found["type"] != "run_table"} == {
        f"{tracked.name}-cold_start-model": {
            "type": "model",
            "metadata": {"folder": str(model), "made_from": ["run-inputs"]},
            "files": ["judge.json"],
        }
    }


def test_summary_and_samples_reach_wandb(tracked: Path) -> None:
    run = wandb_file.read(wandb_file.find(tracked))
    assert run.summary["accuracy"] == {"before": 0.5, "after": None}
    (table,) = {path.resolve() for path in tracked.rglob("*.table.json")}
    content = json.loads(table.read_text())
    row = dict(zip(content["columns"], content["data"][0], strict=True))
    assert row["scores"] == "3, 8"
    assert row["responses"] == "[1] one\n\n[2] two \u202e\ud800"
    assert (row["query"], row["reward"], row["version"]) == ("<b>why?</b>", 1, 0)


def test_plain_files_hold_the_same(tracked: Path) -> None:
    first, second, third = [json.loads(line) for line in (tracked / "metrics.jsonl").read_text().splitlines()]
    assert first["metrics"] == full_record()
    assert second["metrics"] == {"learner/version": 2, "loss/kl": None, "rollout/workers": 2}
    assert 0 <= first["elapsed_s"] <= third["elapsed_s"]
    (sample,) = [json.loads(line) for line in (tracked / "samples.jsonl").read_text().splitlines()]
    assert (sample["when"], sample["scores"], sample["responses"][1]) == ("before", [3, 8], "two \u202e\ud800")


@pytest.mark.usefixtures("tracked")
def test_no_service_is_left_behind() -> None:
    assert processes.children_named("wandb") == []


@pytest.mark.usefixtures("no_wandb_environment")
def test_an_unreachable_server_is_logged_and_the_run_is_tracked_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "INIT_TIMEOUT_S", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    tracking = Tracker(tmp_path, "run-2", {}, "spct-test", "auto")
    tracking.log({"learner/version": 1, "reward/mean": 0.5})
    tracking.finish({"finished": "failed"})
    assert tracking.mode == "offline"
    assert "W&B cannot be reached" in caplog.text
    (path,) = {file.resolve() for file in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}
    run = wandb_file.read(path)
    assert run.series("reward/mean") == [0.5]
    assert run.exit_code == 1


def test_refused_record_leaves_no_trace(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, "r", {}, "p", "disabled")
    with pytest.raises(MetricError):
        tracker.log({"learner/version": 1, "rewards/mean": 1.0})
    tracker.finish({})
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_resumed_run_continues_its_records(tmp_path: Path) -> None:
    for start, version in ((100.0, 1), (7.0, 2)):
        times = iter((start, start + 5.0))
        tracker = Tracker(tmp_path, "r", {}, "p", "disabled", clock=lambda times=times: next(times))
        tracker.log({"learner/version": version})
        tracker.samples([SAMPLE])
        tracker.finish({})
        for name in ("metrics.jsonl", "samples.jsonl"):  # left by a process that is killed while it writes
            with (tmp_path / name).open("a") as file:
                file.write('{"elapsed_s": 99')
    tracker = Tracker(tmp_path, "r", {}, "p", "disabled")
    tracker.finish({})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["elapsed_s"], row["metrics"]["learner/version"]) for row in rows] == [(5.0, 1), (10.0, 2)]


@pytest.mark.parametrize(
    ("mode", "environ", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": ""}, "offline"),
        ("auto", {"WANDB_API_KEY": "k"}, "online"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "online"}, "online"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_MODE": "online", "WANDB_API_KEY": "k"}, "offline"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
    ],
)
def test_mode(mode: Mode, environ: dict[str, str], expected: str) -> None:
    assert chosen_mode(mode, environ) == expected


def test_an_unsupported_mode_is_named() -> None:
    with pytest.raises(ValueError, match=r"WANDB_MODE='shared'.*use online, offline or disabled"):
        chosen_mode("auto", {"WANDB_MODE": "shared"})


def test_wandb_file_stops_at_a_torn_tail_and_refuses_damage(tracked: Path, tmp_path: Path) -> None:
    whole, torn = wandb_file.find(tracked).read_bytes(), tmp_path / "torn.wandb"
    assert len(whole) > 2 * wandb_file.BLOCK
    torn.write_bytes(whole[:-9])
    assert not wandb_file.read(torn).whole
    torn.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(wandb_file.WandbFileError, match="damaged chunk at byte"):
        wandb_file.read(torn)
    torn.write_bytes(b"PK")
    with pytest.raises(wandb_file.WandbFileError, match="does not begin like"):
        wandb_file.read(torn)


def test_lines_that_a_full_disk_did_not_take_do_not_keep_it_from_ending() -> None:
    full = Tracker.__new__(Tracker)
    full._file, full._run = open("/dev/full", "a", buffering=1), None  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        full._file.write("a line\n")
    full.finish({})
    assert full._file.closed
