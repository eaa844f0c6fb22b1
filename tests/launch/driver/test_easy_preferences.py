"""What the cold start always got right is left out of online RL, and the data cursor stays exact (I7)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from buffer.ledger import Cursor
from configs.load import ConfigError, load
from configs.schema import Config
from launch.cluster.failures import RunFailed
from launch.driver.easy_preferences import easy_preferences, without_easy
from launch.setup.preflight import RunInputs, prepare_run

COUNT = 12


def row(name: str, rewards: Sequence[float], *, hinted: bool = False) -> dict[str, Any]:
    return {"preference": name, "hinted": hinted, "completions": [{"reward": reward} for reward in rewards]}


def test_easy_is_what_all_judgements_without_a_hint_got_right() -> None:
    rows = [
        row("solved", (1.0, 1.0, 1.0)),
        row("mixed", (1.0, -1.0, 1.0)),
        row("hard", (-1.0, -1.0, -1.0)),
        row("hard", (1.0,), hinted=True),
        row("solved", (-1.0,), hinted=True),
        row("never judged", ()),
    ]
    assert easy_preferences(rows) == {"solved"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    small = [f"data.train=tiny:1:{COUNT}:2", "data.heldout=tinyheld:2:4:2", "data.skip_easy=true", "cold_start.preferences=8"]
    return load("tiny", [*small, f"run.dir={tmp_path}", "run.id=x"])


@pytest.fixture
def inputs(config: Config) -> RunInputs:
    return prepare_run(config, preset="tiny")


def sampled(folder: Path, inputs: RunInputs, easy: int) -> Path:
    """The file of a cold start that always got the first preferences right."""
    names = [preference.question.id for preference in inputs.train]
    rows = [row(name, (1.0,) * 3 if index < easy else (1.0, -1.0, 1.0)) for index, name in enumerate(names)]
    path = folder / "sampled.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_an_epoch_of_online_rl_is_the_others_once_each(config: Config, inputs: RunInputs, tmp_path: Path) -> None:
    easy, notes = 5, list[str]()
    left = without_easy(config, inputs, sampled(tmp_path, inputs, easy), note=notes.append)
    taken = left.prompts.take(Cursor(), COUNT - easy)
    assert {draft.preference for draft, _ in taken} == {preference.question.id for preference in inputs.train[easy:]}
    assert taken[-1][1] == Cursor(group=COUNT - easy, epoch=1, index=0)
    assert left.train == inputs.train, "labels are found as before"
    said = "online RL leaves out 5 of 12 training preferences, which the cold start always got right (data.skip_easy)"
    assert notes == [said]


def test_a_resumed_run_goes_on_with_the_very_prompt_that_would_have_come_next(
    config: Config, inputs: RunInputs, tmp_path: Path
) -> None:
    path = sampled(tmp_path, inputs, 5)
    whole = without_easy(config, inputs, path, note=lambda text: None).prompts.take(Cursor(), 20)
    for stopped in (1, 6, 7, 13):
        again = without_easy(config, inputs, path, note=lambda text: None).prompts.take(whole[stopped - 1][1], 20 - stopped)
        assert again == whole[stopped:]


def test_by_default_nothing_is_left_out(config: Config, inputs: RunInputs, tmp_path: Path) -> None:
    notes: list[str] = []
    every = config.model_copy(update={"data": config.data.model_copy(update={"skip_easy": False})})
    assert without_easy(every, inputs, tmp_path / "none.jsonl", note=notes.append) is inputs
    assert notes == []


def test_if_nothing_is_left_the_run_ends_with_the_remedy(config: Config, inputs: RunInputs, tmp_path: Path) -> None:
    with pytest.raises(
        RunFailed, match=r"data\.skip_easy: the cold start got all 12 training preferences right, .* harder ones"
    ):
        without_easy(config, inputs, sampled(tmp_path, inputs, COUNT), note=lambda text: None)


@pytest.mark.parametrize(
    "settings",
    [
        ["cold_start.enabled=false"],
        ["cold_start.samples=0"],
        ["cold_start.teacher=http://127.0.0.1:9/v1", "cold_start.teacher_model=judge"],  # its judgements are not the policy's
    ],
)
def test_what_is_easy_must_be_known(settings: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.skip_easy = true: the policy's own judgements of the cold start without a hint"
    ):
        load("tiny", ["data.skip_easy=true", *settings, "meta_rm.enabled=false"])
