"""A run's config means the same from every folder."""

import json
import os
from pathlib import Path

import pytest

from configs.load import ConfigError, dump, load
from launch.driver.pipeline import Pipeline
from launch.monitoring.console import ProgressDisplay
from launch.setup.model_files import TINY
from launch.setup.preflight import prepare_run
from launch.setup.run_config import load_resumed_config, load_run_config

PAIR = {"prompt": "the red fox", "responses": ["red", "blue"], "preferred": 0}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with data, general data, templates and a model that are named relative to it."""
    folder = tmp_path / "project"
    (folder / "dt=2026").mkdir(parents=True)
    for name in ("train", "heldout"):
        (folder / "dt=2026" / f"{name}.jsonl").write_text(json.dumps(PAIR | {"id": name, "prompt": f"q of {name}"}) + "\n")
    (folder / "general.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    (folder / "meta.txt").write_text("{{query}}\n{{responses}}\n")
    (folder / "mine.txt").write_text("Judge.\n{{query}}\n{{responses}}\n{{hint}}\nScores: {{scores}}\n")
    (folder / "model").symlink_to(TINY)
    monkeypatch.chdir(folder)
    return folder


RELATIVE = (
    "data.train=[dt=2026/train.jsonl, tiny:1:5:2, hf:NCSOFT/offsetbias, hf:NCSOFT/offsetbias@dt=2026]",
    "data.heldout=dt=2026/heldout.jsonl",
    "cold_start.general=[general.jsonl]",
    "prompts.template_path=mine.txt",
    "model.path=model",
)


def test_paths_become_absolute_and_names_stay(project: Path) -> None:
    config = load_run_config("tiny", [*RELATIVE, "meta_rm.template_path=meta.txt"])
    assert config.data.train == [
        str(project / "dt=2026" / "train.jsonl"),
        "tiny:1:5:2",
        "hf:NCSOFT/offsetbias",
        f"hf:NCSOFT/offsetbias@{project / 'dt=2026'}",
    ]
    assert config.data.heldout == [str(project / "dt=2026" / "heldout.jsonl")]
    assert config.cold_start.general == [str(project / "general.jsonl")]
    assert config.prompts.template_path == str(project / "mine.txt")
    assert config.meta_rm.template_path == str(project / "meta.txt")
    assert config.model.path == str(project / "model")


@pytest.mark.parametrize("path", ["tiny", "smollm2-135m", "Qwen/Qwen3-8B"])
def test_a_model_that_is_named_keeps_its_name(path: str, project: Path) -> None:
    assert load_run_config("tiny", [f"model.path={path}"]).model.path == path


def test_absolute_paths_and_everything_else_stay_as_they_are(project: Path) -> None:
    once = load_run_config("tiny", RELATIVE)
    assert load_run_config("tiny", [f"data.train={project / 'a.jsonl'}"]).data.train == [str(project / "a.jsonl")]
    again = project / "again.yaml"
    again.write_text(dump(once))
    assert load_run_config(str(again), []) == once
    assert load_run_config("qwen3-8b", ["data.heldout=tinyheld:1:2"]) == load(
        "qwen3-8b", ["data.heldout=tinyheld:1:2", f"run.dir={project / 'runs'}"]
    )


def test_an_empty_source_is_not_the_working_folder(project: Path) -> None:
    """As `--data "$UNSET"`: `grm.sources` refuses it."""
    assert load_run_config("tiny", ['data.train=[""]']).data.train == [""]


def test_a_run_with_relative_paths_is_resumed_from_another_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [RELATIVE[0].replace(", hf:NCSOFT/offsetbias, hf:NCSOFT/offsetbias@dt=2026", ""), *RELATIVE[1:]]
    config = load_run_config("tiny", [*overrides, "run.id=x", "model.context=512", "learner.micro_tokens=8192"])
    folder = Pipeline(config, preset="tiny", progress=ProgressDisplay(1, 0)).folder
    (folder / "config.yaml").write_text(dump(config))  # as the pipeline does once it is entered
    (folder / "checkpoints").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    resumed = load_resumed_config(os.path.relpath(folder, elsewhere))
    inputs = prepare_run(resumed, preset="tiny", resume=True)
    assert inputs.folder.resolve() == project / "runs" / "x"
    assert [preference.question.id for preference in inputs.train][:1] == ["train"]
    assert len(inputs.mixed) == 1


def test_in_a_ray_job_paths_stay_relative_as_the_next_job_brings_its_own_copy(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "_ray_pkg_0123"
    project.rename(copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_run_config("tiny", RELATIVE) == load("tiny", [*RELATIVE, f"run.dir={tmp_path / 'runs'}"])


def test_a_resumed_run_keeps_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump(load("tiny", ["run.dir=elsewhere", "grpo.steps=7"])))
    config = load_resumed_config(str(tmp_path))
    assert (config.run.dir, config.run.id, config.grpo.steps) == (str(tmp_path.parent), tmp_path.name, 7)
    with pytest.raises(ConfigError, match=r"--resume: a run goes on with its own config; grpo.lr=1 cannot be changed"):
        load_resumed_config(str(tmp_path), ["grpo.lr=1"])
    with pytest.raises(ConfigError, match=r"no run folder, it holds no config.yaml"):
        load_resumed_config(str(tmp_path / "nowhere"))


def test_a_ray_cluster_that_only_the_run_folder_of_a_stranger_names_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump(load("tiny", ["cluster.address=10.0.0.1:6379"])), encoding="utf-8")
    tmp_path.chmod(0o700)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config.chmod(0o600)
    assert load_resumed_config(str(tmp_path)).cluster.address == "10.0.0.1:6379", "the user's own"
    config.chmod(0o620)
    for named in ("", "10.0.0.2:6379"):
        monkeypatch.setenv("RAY_ADDRESS", named)
        with pytest.raises(ConfigError, match=r"config.yaml can be written by other users, .*set RAY_ADDRESS=10.0.0.1:6379"):
            load_resumed_config(str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert load_resumed_config(str(tmp_path)).cluster.address == "10.0.0.1:6379"


def test_a_reward_rule_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_run_config("tiny", ["grpo.reward=rules.py:reward"]).grpo.reward == f"{tmp_path}/rules.py:reward"
    assert load_run_config("tiny", []).grpo.reward == ""
