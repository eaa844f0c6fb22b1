"""A run goes on with the data, template and model that it began with, or not at all; the refusal names what has changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffer import json_text
from configs.load import ConfigError, dump
from configs.schema import Config
from grm.prompts import Template
from launch.driver.pipeline import Pipeline
from launch.monitoring.console import ProgressDisplay
from launch.setup import fingerprints, model_files
from launch.setup.fingerprints import Fingerprint, Teacher
from launch.setup.model_files import TINY
from launch.setup.preflight import prepare_run
from launch.setup.run_config import load_resumed_config, load_run_config

TEMPLATE = "Judge.\n{{query}}\n{{responses}}\n{{hint}}\nScores: {{scores}}\n"


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"the red fox {number}", "responses": ["red", "blue"], "preferred": 0} | changes


def write(file: Path, *rows: dict[str, Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with everything that a run is made from."""
    write(tmp_path / "train.jsonl", *(row(i) for i in range(4)))
    write(tmp_path / "heldout.jsonl", *(row(i) for i in range(10, 12)))
    write(tmp_path / "general.jsonl", {"prompt": "q", "completion": "a"})
    (tmp_path / "mine.txt").write_text(TEMPLATE)
    shutil.copytree(TINY, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(*overrides: str) -> Config:
    inputs = ("data.train=train.jsonl", "data.heldout=heldout.jsonl", "cold_start.general=general.jsonl", "model.path=model")
    more = ("prompts.template_path=mine.txt", "model.context=512", "learner.micro_tokens=8192", "run.id=x")
    return load_run_config("tiny", [*inputs, *more, *overrides])


def begun(*overrides: str, stage: str = "checkpoints") -> Path:
    """The folder of a run that has begun, as the pipeline leaves it."""
    config = config_of(*overrides)
    run = Pipeline(config, preset="tiny", progress=ProgressDisplay(1, 0))
    fingerprints.write(run.folder, run._inputs.fingerprints)
    (run.folder / "config.yaml").write_text(dump(config))
    (run.folder / stage).mkdir()
    return run.folder


def resumed(folder: Path) -> Config:
    return load_resumed_config(str(folder))


def test_it_goes_on_with_the_same_inputs_and_knows_them(project: Path) -> None:
    folder = begun()
    assert prepare_run(resumed(folder), preset="x", resume=True).known
    recorded = {
        (each["leaf"], Path(each["name"]).name): each["rows"] for each in json.loads((folder / "inputs.json").read_text())
    }
    assert recorded == {
        ("data.train", "train.jsonl"): 4,
        ("data.heldout", "heldout.jsonl"): 2,
        ("cold_start.general", "general.jsonl"): 1,
        ("prompts", "mine.txt"): None,
        ("model.path", "model"): None,
    }


def append(folder: Path) -> None:
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(row(9)) + "\n")


def test_a_teacher_is_among_them(project: Path) -> None:
    row = {"preference": "train:1", "permutation": [0, 1], "text": "t"}
    write(project / "taught.jsonl", row, row | {"preference": "train:2"})
    folder = begun("cold_start.teacher=taught.jsonl")
    assert prepare_run(resumed(folder), preset="x", resume=True).known
    write(project / "taught.jsonl", row | {"text": "u"}, row | {"preference": "train:2"})
    with pytest.raises(ConfigError, match=r"cold_start\.teacher: \S+taught\.jsonl has other content than when the run began"):
        prepare_run(resumed(folder), preset="x", resume=True)


def test_a_served_teacher_may_move_to_another_address_but_not_change(project: Path) -> None:
    prompt = Template(name="t", graded="g", verdict="v")

    def found(name: str) -> list[Fingerprint]:
        return fingerprints.fingerprints([], [], prompt, Teacher(name=name, judgements=None), model=str(TINY), path="tiny")

    (project / "x").mkdir()
    fingerprints.write(project / "x", found("judge"))
    assert fingerprints.require_same(project / "x", found("judge"))
    with pytest.raises(ConfigError, match=r"cold_start\.teacher: judge is no longer named there; .*other is now named there"):
        fingerprints.require_same(project / "x", found("other"))


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a row more": (append, r"data\.train: \S+train\.jsonl has 5 rows that can be used, 4 when the run began"),
    "another row": (
        lambda folder: write(folder / "train.jsonl", *(row(i) for i in (0, 1, 2, 4))),
        r"data\.train: \S+train\.jsonl has other content than when the run began, with as many rows \(4\)",
    ),
    "a label": (
        lambda folder: write(folder / "heldout.jsonl", row(10), row(11, preferred=1)),
        r"data\.heldout: \S+heldout\.jsonl",
    ),
    "general data": (
        lambda folder: write(folder / "general.jsonl", {"prompt": "q", "completion": "b"}),
        r"cold_start\.general: \S+general\.jsonl has other content",
    ),
    "the template": (
        lambda folder: (folder / "mine.txt").write_text("Now judge.\n" + TEMPLATE),
        r"prompts: template \S+mine\.txt",
    ),
    "the model": (
        lambda folder: (folder / "model" / "config.json").write_text(
            (TINY / "config.json").read_text().replace("{", '{"a": 1,', 1)
        ),
        r"model\.path: \S+model has other content",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_input_is_refused_by_name(change: str, project: Path) -> None:
    folder = begun()
    act, message = CHANGES[change]
    act(project)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=rf"{folder}: the run began with other inputs: {message}[^;]*\. .*start a new run"):
        prepare_run(resumed(folder), preset="x", resume=True)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_cold_start_that_is_taken_up_again_is_checked_too(project: Path) -> None:
    begun(stage="cold_start")
    append(project)
    with pytest.raises(ConfigError, match=r"the run began with other inputs: data\.train: \S+train\.jsonl has 5 rows"):
        prepare_run(config_of(), preset="tiny")


def test_what_is_not_used_may_change(project: Path) -> None:
    folder = begun("data.train_limit=3")
    used = {preference.line for preference in prepare_run(resumed(folder), preset="x", resume=True).train}
    lines = (project / "train.jsonl").read_text().splitlines()
    (unused,) = (number for number in range(1, 5) if f"train:{number}" not in used)
    lines[unused - 1] = json.dumps(row(9))
    (project / "train.jsonl").write_text("\n".join(lines))
    assert prepare_run(resumed(folder), preset="x", resume=True).known


def test_all_changes_come_in_one_message(project: Path) -> None:
    folder = begun()
    append(project)
    (project / "mine.txt").write_text("Now judge.\n" + TEMPLATE)
    with pytest.raises(ConfigError, match=r"data\.train: .*; prompts: template "):
        prepare_run(resumed(folder), preset="x", resume=True)


def test_a_run_that_began_before_inputs_were_recorded_is_not_known(project: Path) -> None:
    folder = begun()
    (folder / "inputs.json").unlink()
    append(project)
    assert not prepare_run(resumed(folder), preset="x", resume=True).known


@pytest.mark.parametrize("text", ["", "[{}]", "7", "[" * 100_000])
def test_a_record_that_cannot_be_read_is_named(text: str, project: Path) -> None:
    folder = begun()
    (folder / "inputs.json").write_text(text)
    with pytest.raises(ConfigError, match=r"inputs\.json cannot be read .*: restore it from a copy, or start a new run"):
        prepare_run(resumed(folder), preset="x", resume=True)


def test_a_record_without_end_is_read_up_to_the_bound(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun()
    monkeypatch.setattr(json_text, "LARGEST_FILE", 16)
    with pytest.raises(ConfigError, match=r"inputs\.json cannot be read .*: restore it from a copy, or start a new run"):
        fingerprints.require_same(folder, [])


def test_a_hub_model_is_told_by_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for revision in ("aaa", "bbb", "aaa"):
        monkeypatch.setattr(model_files, "cached_revision", lambda model, revision=revision: revision)
        seen.append(model_files.fingerprint("owner/name"))
    assert seen[0] == seen[2] != seen[1]
