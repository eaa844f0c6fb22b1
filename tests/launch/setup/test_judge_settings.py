"""judge.json: what a run writes about its judge is what the judge is asked with again."""

import json
import shutil
from pathlib import Path

import pytest

from configs.load import ConfigError, load
from configs.schema import Config
from grm.preferences import Preference, Question
from grm.prompts import template
from launch.setup import judge_settings
from launch.setup.judge_settings import as_overrides, differences, read_judge, settings_files, settings_of
from launch.setup.model_files import TINY
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer

PREFERENCES = [Preference(question=Question(id=f"{n}", query="q", responses=tuple("abc"[:n])), label=0) for n in (3, 1, 2, 2)]
OWN = "Judge this.\n{{query}}\n{{responses}}\n{{scores}}\n"
TOKENIZER = Tokenizer(str(TINY))


def written(folder: Path, config: Config) -> str:
    """A model's folder with the files of a run under this config."""
    folder.mkdir()
    for name, text in settings_files(settings_of(config, PREFERENCES, TOKENIZER)).items():
        (folder / name).write_text(text)
    return str(folder)


def evaluated(model: str, *given: str) -> Config:
    """The config of an evaluation of a model."""
    settings = read_judge(model)
    assert settings is not None
    return load("evaluate", [*as_overrides(settings, model, given), *given])


def test_a_judge_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    config = load(
        "tiny", ["prompts.principles=false", "prompts.thinking=true", "prompts.show=[criteria]", "eval.clip_scores=true"]
    )
    model = written(tmp_path / "model", config)
    asked = evaluated(model)
    assert asked.prompts == config.prompts
    assert (asked.model.context, asked.rollout.max_new_tokens, asked.eval.clip_scores) == (256, 64, True)
    settings = read_judge(model)
    assert settings.responses == (1, 2, 3)
    assert settings.scale == (1, 10)
    assert settings.stop_token_ids[0] == TOKENIZER.end_token
    assert settings.stop[0] == TOKENIZER.spelling(TOKENIZER.end_token)
    assert differences(settings, asked) == []
    assert read_judge(str(TINY)) is None


def test_a_template_of_its_own_goes_with_the_model(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(OWN)
    model = written(tmp_path / "model", load("tiny", [f"prompts.template_path={tmp_path / 'own.txt'}"]))
    (tmp_path / "own.txt").unlink()
    moved = shutil.move(model, tmp_path / "elsewhere")
    assert prompt_template(evaluated(moved)).graded == OWN.rstrip("\n")
    assert evaluated(moved, "prompts.style=full").prompts.template_path == "", "the command line counts more"
    (Path(moved) / "judge_template.txt").unlink()
    with pytest.raises(ConfigError, match=r"there is no judge_template\.txt beside it; restore it"):
        evaluated(moved)


def test_a_shipped_template_that_has_changed_since_is_taken_from_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = written(tmp_path / "model", load("tiny"))
    trained = prompt_template(load("tiny")).graded

    def changed(style: str, *, principles: bool) -> object:
        return template("example" if style == "compact" else style, principles=principles)

    monkeypatch.setattr(judge_settings, "template", changed)
    assert prompt_template(evaluated(model)).graded == trained


def test_what_is_asked_otherwise_is_said(tmp_path: Path) -> None:
    model = written(tmp_path / "model", load("tiny"))
    asked = evaluated(model, "prompts.style=full", "eval.clip_scores=true")
    said = differences(read_judge(model), asked)
    assert said == [
        "prompts.style or prompts.template_path: the judge was trained with another value, says its judge.json",
        "eval.clip_scores: the judge was trained with another value, says its judge.json: false, and is asked with true",
    ]


@pytest.mark.parametrize(("content", "why"), [("{", "judge.json"), ('{"kind": "other"}', "kind: Input should be")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "judge.json").write_text(content)
    with pytest.raises(ConfigError, match=rf"judge.json is not as a run wrote it \(.*{why}"):
        read_judge(str(tmp_path))


def test_fields_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    model = Path(written(tmp_path / "model", load("tiny")))
    fields = json.loads((model / "judge.json").read_text())
    (model / "judge.json").write_text(json.dumps({**fields, "later": 1}))
    assert read_judge(str(model)).style == "compact"
