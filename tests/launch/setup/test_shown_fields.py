"""References and criteria of a run: shown when it asks for them, part of its inputs then, and as if not there otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError, load
from configs.schema import Config
from launch.judging import votes
from launch.judging.evaluation_checks import labelled_preferences
from launch.judging.vote_plan import vote_plan
from launch.setup import fingerprints
from launch.setup.model_files import TINY
from launch.setup.preference_data import load_training
from launch.setup.preflight import prepare_run
from launch.setup.prompt_source import prompt_template
from launch.setup.shown_fields import require_shown, shown_notes

PAIR = {"prompt": "q", "responses": ["4", "5"], "preferred": 0}


def config_of(folder: Path, *rows: dict[str, Any], show: str) -> Config:
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps({**PAIR, **row, "id": str(i)}) + "\n" for i, row in enumerate(rows)))
    data = [f"data.train={file}", "data.heldout=tinyheld:1:5:2", f"run.dir={folder / 'runs'}", "run.id=x"]
    return load("tiny", [*data, f"prompts.show={show}"])


def test_they_reach_the_prompt_only_where_they_are_asked_for(tmp_path: Path) -> None:
    for show, seen in (("[]", False), ("[reference]", True), ("reference", True)):
        config = config_of(tmp_path, {"reference": "It is 4."}, show=show)
        (preference,) = load_training(config).preferences
        message = vote_plan(config, prompt_template(config), 1).message(preference.question, (0, 1))
        assert ("It is 4." in message) is seen


def test_a_run_that_does_not_ask_has_the_inputs_of_a_file_without_them(tmp_path: Path) -> None:
    def digest(*rows: dict[str, Any], show: str) -> str:
        config = config_of(tmp_path, *rows, show=show)
        found = fingerprints.fingerprints([load_training(config)], [], prompt_template(config), model=str(TINY), path="tiny")
        return found[0].digest

    assert digest({"reference": "It is 4."}, show="[]") == digest({}, show="[]")
    first, second = (digest({"reference": text}, show="[reference]") for text in ("It is 4.", "It is 5."))
    assert len({first, second, digest({}, show="[]")}) == 3


def test_a_judgement_with_another_reference_is_not_used_again(tmp_path: Path) -> None:
    marks = set()
    for row in ({}, {"reference": "It is 4."}, {"reference": "It is 5."}):
        (preference,) = load_training(config_of(tmp_path, row, show="[reference]")).preferences
        marks.add(votes.mark_of(preference))
    assert len(marks) == 3


def test_what_no_row_has_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"reference": "It is 4."}, {}, show="[reference, criteria]")
    with pytest.raises(ConfigError, match=r"prompts\.show: no row of data\.train has a field 'criteria'; add it"):
        prepare_run(config, preset="tiny")
    with pytest.raises(ConfigError, match=r"no row of data\.heldout has a field 'reference'"):
        labelled_preferences(config, print)
    with pytest.raises(ConfigError, match=r"prompts\.show"):
        config_of(tmp_path, {}, show="[label]")


def test_how_many_rows_have_them_is_noted_and_where_one_names_the_label(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"reference": "It is 4."}, {"reference": "4"}, {}, show="[reference]")
    data = load_training(config)
    require_shown(config, data)
    assert shown_notes(config, [data]) == [
        "prompts.show: 2 of 3 rows of data.train have the field reference; in 1 of them it is one of the responses, word for"
        " word, which names the label"
    ]
    assert shown_notes(config_of(tmp_path, {"reference": "It is 4."}, show="[]"), [data]) == []
