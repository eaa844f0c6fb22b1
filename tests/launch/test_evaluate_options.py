"""The options of an evaluation, and the overrides that they stand for."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.load import ConfigError, load
from configs.schema import Config
from launch.evaluate import as_overrides, config_of, extra_body_of, parser
from launch.judging.evaluation_target import short_name
from launch.setup.judge_settings import settings_of
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer


def overrides_of(*argv: str) -> dict[str, Any]:
    """The overrides that the options stand for, as YAML reads them."""
    overrides = as_overrides(parser().parse_intermixed_args(argv))
    return {key: yaml.safe_load(value) for key, _, value in (override.partition("=") for override in overrides)}


def test_options_are_overrides() -> None:
    assert overrides_of("--model", "./m", "--data", "a.jsonl", "b: c.jsonl", "--k", "1,2") == {
        "model.path": "./m",
        "data.train": ["a.jsonl", "b: c.jsonl"],
        "data.heldout": ["a.jsonl", "b: c.jsonl"],
        "eval.votes": [1, 2],
    }


@pytest.mark.parametrize(("more", "limit"), [([], 0), (["data.heldout_limit=7"], 7), (["--k", "1", "data.heldout_limit=7"], 7)])
def test_all_rows_are_judged_whatever_limit_a_preset_sets(more: list[str], limit: int) -> None:
    assert load("smollm2-135m").data.heldout_limit == 32
    arguments = parser().parse_intermixed_args(["--config", "smollm2-135m", "--model", "m", "--data", "a.jsonl", *more])
    assert config_of(arguments).data.heldout_limit == limit


def test_no_votes_and_votes_of_the_preset() -> None:
    assert overrides_of("--model", "m", "--data", "d", "--k", "0")["eval.votes"] == []
    assert "eval.votes" not in overrides_of("--model", "m", "--data", "d")


def test_overrides_and_data_are_told_apart_wherever_they_stand() -> None:
    argv = ["grpo.lr=1e-6", "--model", "m", "--data", "d", "run.seed=3", "--k", "1", "eval.temperature=1.0"]
    arguments = parser().parse_intermixed_args(argv)
    assert as_overrides(arguments)[:3] == ["run.seed=3", 'model.path="m"', 'data.train=["d"]']
    assert arguments.overrides == ["grpo.lr=1e-6", "eval.temperature=1.0"]
    config = config_of(arguments)
    assert (config.run.seed, config.grpo.lr, config.eval.temperature, config.data.heldout) == (
        3,
        1e-6,
        1.0,
        [str(Path("d").absolute())],
    )


def test_a_judge_is_asked_as_its_folder_says_unless_a_preset_or_the_command_line_says_otherwise(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    trained = settings_of(load("tiny"), [], Tokenizer(str(TINY)))

    def config(*more: str) -> Config:
        arguments = parser().parse_intermixed_args(["--model", str(tmp_path / "model"), "--data", "d", *more])
        return config_of(arguments, trained)

    assert (config().prompts.style, config().model.context) == ("compact", 256)
    assert config("prompts.style=example").prompts.style == "example"
    assert config("--config", "qwen3-8b").prompts.style == "full"


def test_more_fields_of_a_request_to_an_endpoint() -> None:
    argv = ["--model", "m", "--data", "d", "--endpoint", "http://h/v1"]
    given = '{"chat_template_kwargs": {"enable_thinking": false}}'
    assert extra_body_of(parser().parse_intermixed_args(argv)) is None
    assert extra_body_of(parser().parse_intermixed_args([*argv, "--extra-body", given])) == {
        "chat_template_kwargs": {"enable_thinking": False}
    }
    for text, why in (
        ("{", r"--extra-body: not JSON \(.*; give a JSON object"),
        ("[1]", "--extra-body: expected a JSON object; give a JSON object"),
        ('{"temperature": 0, "n": 2}', "--extra-body: n, temperature of a request is what is measured; leave it out"),
    ):
        with pytest.raises(ConfigError, match=why):
            extra_body_of(parser().parse_intermixed_args([*argv, "--extra-body", text]))
    with pytest.raises(ConfigError, match="give --endpoint, too"):
        extra_body_of(parser().parse_intermixed_args(["--model", "m", "--data", "d", "--extra-body", given]))


def test_a_path_with_an_equals_sign_is_data() -> None:
    overrides = overrides_of("--model", "m", "--data", "dt=2026/x.jsonl", "./a=b.jsonl", "run.seed=3")
    assert overrides["data.heldout"] == ["dt=2026/x.jsonl", "./a=b.jsonl"]
    assert overrides["run.seed"] == 3


@pytest.mark.parametrize("name", ["2024", "~", "null", "[x", "модель", "a/😀", 'a"b'])
def test_names_are_texts_whatever_yaml_would_make_of_them(name: str) -> None:
    overrides = overrides_of("--model", name, "--data", name)
    assert (overrides["model.path"], overrides["data.train"], overrides["data.heldout"]) == (name, [name], [name])


def test_a_served_model_is_no_folder() -> None:
    assert overrides_of("--model", "org/name", "--endpoint", "http://h/v1", "--data", "d")["model.path"] == "tiny"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("tiny", "tiny"),
        ("org/name", "org-name"),
        ("./my-model/", "my-model"),
        ("../my-model", "my-model"),
        ("runs/a/checkpoints/meta-rm/version-80/model", "meta-rm-version-80"),
        ("/model", "model"),
        ("..", "model"),
    ],
)
def test_a_models_name_can_stand_in_a_files(model: str, name: str) -> None:
    assert short_name(model) == name
