"""scale.py, against a real embedded server that was filled by hand."""

import re
from pathlib import Path

import pytest

from buffer import streams
from buffer.rollout_target import rollout_target
from configs.load import ConfigError, load
from launch import scale
from launch.scale import require_in_bounds
from tests.buffer.run_by_hand import Run

SELF_SCALING = load("tiny", ["rollout.workers=2", "rollout.autoscale_min=2", "rollout.autoscale_max=4"])


def test_a_target_is_kept_for_the_driver(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--run", "mine", "--rollouts", "3"]) == 0
    told = capsys.readouterr().out
    assert "rollout workers: 1 -> 3 asked for; the run says when they are at work\n" in told
    assert "status     python launch/status.py --run " in told
    assert rollout_target(run.client, run.run_id) == 3
    assert scale.main(["--run", "mine", "--rollouts", "0"]) == 2
    assert "--rollouts 0: expected 1 or more" in capsys.readouterr().err


def test_a_target_set_during_the_cold_start_takes_effect_when_training_begins(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in [*run.client.scan_iter("spct:*")]:
        run.client.rename(key, key.replace(b"{mine}", b"{mine.cold-start}"))
    assert scale.main(["--run", "mine", "--rollouts", "3"]) == 0
    assert "1 -> 3 asked for when training begins: the cold start goes on as it is" in capsys.readouterr().out
    assert rollout_target(run.client, "mine") == 3
    streams.remove(run.client, "mine.cold-start")


def test_a_run_that_has_ended_gets_no_workers(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert scale.main(["--run", "mine", "--rollouts", "3"]) == 2
    assert "it is starting, or not running" in capsys.readouterr().err


@pytest.mark.parametrize("rollouts", [2, 3, 4])
def test_a_target_within_the_autoscalers_bounds_is_taken(rollouts: int) -> None:
    require_in_bounds(rollouts, SELF_SCALING)


@pytest.mark.parametrize("rollouts", [1, 5, 100])
def test_a_target_outside_them_is_refused_and_not_silently_overridden(rollouts: int) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--rollouts {rollouts}: the run scales itself between 2 and 4 workers")):
        require_in_bounds(rollouts, SELF_SCALING)


def test_without_autoscaling_any_number_is_taken() -> None:
    require_in_bounds(100, load("tiny"))
