"""The totals of a run, on disk."""

from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.driver.run_state import RunState


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    state = RunState(tmp_path / "run_state.json")
    state.totals.tokens = 7
    state.save()
    assert RunState(tmp_path / "run_state.json").totals.tokens == 7


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '{"colour": 1}', ""])
def test_a_file_that_is_not_as_it_was_written_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run_state.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run_state\.json is not as the run wrote it; restore it, or start another run"):
        RunState(tmp_path / "run_state.json")
