"""The totals of a run, on disk."""

from contextlib import suppress
from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.driver.run_state import RunState, RunTotals
from learner.meta_rm import MetaRMReport


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    state = RunState(tmp_path / "run_state.json")
    state.totals.tokens = 7
    state.save()
    assert RunState(tmp_path / "run_state.json").totals.tokens == 7


class FakeClock:
    """In place of `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("launch.driver.run_state.time.monotonic", lambda: self.now)


def test_the_time_of_a_stage_is_that_of_all_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)
    first = RunState(tmp_path / "run_state.json")
    first.begin("total", since=99.0)
    with suppress(KeyboardInterrupt), first.timed("train"):
        clock.now += 7
        first.save()
        clock.now += 5
        raise KeyboardInterrupt  # as a kill: what follows the last save is not on disk
    assert first.totals.seconds == {"total": 13, "train": 12}
    clock.now += 1000
    second = RunState(tmp_path / "run_state.json")
    second.begin("total", since=clock.now)
    second.add_time("start", 2)
    with second.timed("train"):
        clock.now += 3
    expected = {"total": 8 + 3, "train": 7 + 3, "start": 2}
    assert second.totals.seconds == RunState(tmp_path / "run_state.json").totals.seconds == expected


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '{"colour": 1}', ""])
def test_a_file_that_is_not_as_it_was_written_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run_state.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run_state\.json is not as the run wrote it; restore it, or start another run"):
        RunState(tmp_path / "run_state.json")


def meta_step(version: int, completions: int) -> MetaRMReport:
    return MetaRMReport(version=version, groups=(), completions=completions, metrics={})


def test_a_step_of_the_meta_rm_that_is_taken_again_counts_once() -> None:
    totals = RunTotals()
    for version, completions in ((1, 16), (2, 17), (4, 18)):  # the third was skipped
        totals.add_meta_rm(meta_step(version, completions))
    assert totals.meta_examples == 16 + 17 + 18
    totals.add_meta_rm(meta_step(2, 20))  # back at the checkpoint of step 1
    assert totals.meta_completions == [16, 20]
