"""Each row of the paper's table can be trained and evaluated with the leaves that there are."""

import shlex
from pathlib import Path

import pytest

from configs.load import load
from configs.schema import Config
from launch import evaluate
from launch.judging.paper_table import GROUPS, ROWS, WITHOUT_MATH
from launch.judging.reproduction import CONFIG, RECIPE, Choices, evaluation_arguments, run_id, training_command
from launch.setup.run_config import load_run_config

RELEASED = [name for name, row in ROWS.items() if row.model]
TRAINED = [name for name, row in ROWS.items() if not row.model]
CHOICES = Choices(model="", endpoint="", meta_rm="", benchmarks=[], config=CONFIG, out=Path("out"), overrides=[])


def leaves(config: Config) -> dict[str, object]:
    return {f"{name}.{key}": value for name, section in config.model_dump().items() for key, value in section.items()}


@pytest.mark.parametrize("name", TRAINED)
def test_the_command_that_trains_a_row_is_a_config_in_which_its_overrides_change_something(name: str) -> None:
    _, _, option, preset, *overrides = shlex.split(training_command(name, ROWS[name]))
    assert (option, preset) == ("--config", RECIPE)
    recipe, trained = leaves(load_run_config(RECIPE, [])), leaves(load_run_config(preset, overrides))
    changed = {leaf for leaf, value in trained.items() if value != recipe[leaf]} - {"run.dir", "run.id"}
    named = {override.partition("=")[0] for override in ROWS[name].overrides}
    assert changed <= named
    assert named - changed <= {"cold_start.general"}, "the preset names no general data, which its user adds"


@pytest.mark.parametrize("name", ROWS)
def test_the_arguments_that_evaluate_a_row_are_a_config(name: str) -> None:
    row = ROWS[name]
    arguments = evaluate.parser().parse_intermixed_args(evaluation_arguments(name, row, CHOICES))
    config = evaluate.config_of(arguments)
    assert config.eval.votes == [row.k][: row.k]
    assert all(source.startswith("bench:") for source in config.data.heldout)
    assert len(config.data.heldout) == len(row.paper) - ("overall" in row.paper)
    assert arguments.meta_rm == row.meta_rm


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_row_is_judged_with_the_prompt_that_it_was_trained_with(name: str) -> None:
    prompts = [each for each in ROWS[name].overrides if each.startswith("prompts.")]
    assert prompts == [each for each in ROWS[name].evaluation if each.startswith("prompts.")]


def test_rows_that_differ_in_votes_share_a_training() -> None:
    assert training_command("ours", ROWS["ours"]) == training_command("ours@32", ROWS["ours@32"])
    assert training_command("rft", ROWS["rft"]) == training_command("rft@8", ROWS["rft@8"])
    assert len({training_command(name, ROWS[name]) for name in TRAINED}) == len({run_id(name) for name in TRAINED})


def test_rows_of_a_meta_rm_differ_in_the_votes_that_it_chooses() -> None:
    figures = {name: row.figure for name, row in ROWS.items() if row.meta_rm}
    assert figures == {
        "grm-27b-meta@8": "guided@8",
        "grm-27b-meta@32": "guided@32",
        "grm-27b-meta1@32": "guided@32_one",
        "grm-27b-meta8@32": "guided@32_quarter",
    }


def test_released_rows_train_nothing() -> None:
    assert not any(training_command(name, ROWS[name]) or ROWS[name].overrides for name in RELEASED)


def test_the_row_without_mathematics_is_the_recipe_without_its_sources_of_it() -> None:
    assert tuple(source for source in load(RECIPE).data.train if "OpenMath" not in source) == WITHOUT_MATH


def test_the_papers_figures_are_of_known_benchmarks() -> None:
    assert all(row.paper and set(row.paper) <= {*GROUPS} for row in ROWS.values())
