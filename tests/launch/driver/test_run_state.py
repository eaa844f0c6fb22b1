"""The totals of a run, on disk."""

from contextlib import suppress
from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.driver.run_state import RunState


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
