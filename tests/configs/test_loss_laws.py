"""Settings of the loss that have no effect beside others are refused."""

from pathlib import Path
from typing import get_args

import pytest

from configs.load import ConfigError, dump, load
from configs.reference import sections
from configs.sections import OneOf
from learner.advantages import ADVANTAGES
from learner.corrections import CORRECTIONS
from learner.kl import ESTIMATORS
from learner.losses import NORMALISATIONS
from learner.overlong import OVERLONG


@pytest.mark.parametrize(
    ("leaf", "table"),
    [
        ("correction", CORRECTIONS),
        ("kl", ESTIMATORS),
        ("normalise", NORMALISATIONS),
        ("advantages", ADVANTAGES),
        ("overlong", OVERLONG),
    ],
)
def test_each_name_has_its_function_and_each_function_its_name(leaf: str, table: dict[str, object]) -> None:
    for name in table:
        assert getattr(load("tiny", [f"grpo.{leaf}={name}"]).grpo, leaf) == name
    field = sections()["grpo"].model_fields[leaf]
    names = next((part.names for part in field.metadata if isinstance(part, OneOf)), get_args(field.annotation))
    assert sorted(names) == sorted(table)


@pytest.mark.parametrize(
    ("overrides", "bounds"),
    [
        ([], (0.0, 2.0)),
        (["grpo.ratio_high=5"], (0.0, 5.0)),
        (["grpo.correction=clip"], (0.8, 1.2)),
        (["grpo.correction=clip", "grpo.ratio_high=1.28"], (0.8, 1.28)),
        (["grpo.correction=icepop", "grpo.ratio_low=0.2"], (0.2, 5.0)),
        (["grpo.correction=sequence_mask"], (0.0, 3.0)),
        (["grpo.correction=geometric"], (0.99, 1.01)),
    ],
)
def test_each_correction_has_bounds_of_its_own(overrides: list[str], bounds: tuple[float, float]) -> None:
    assert load("tiny", overrides).grpo.ratio_bounds == bounds


@pytest.mark.parametrize("key", ["grpo.ratio_low=0.5", "grpo.ratio_high=3"])
def test_bounds_without_a_correction_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^command line: grpo\.ratio_low = .* have no effect with grpo\.correction = none"):
        load("tiny", ["grpo.correction=none", key])


@pytest.mark.parametrize("key", ["grpo.ratio_high=0.28", "grpo.ratio_low=1.1"])
def test_bounds_enclose_1(key: str) -> None:
    with pytest.raises(ConfigError, match=r"must enclose 1"):
        load("tiny", ["grpo.correction=clip", key])


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("grpo.clip_high=0.28", r"grpo\.correction=clip with grpo\.ratio_high=1\+epsilon"),
        ("grpo.clip_low=0.2", r"grpo\.correction=clip with grpo\.ratio_low=1-epsilon"),
        ("grpo.tis_cap=2", r"the cap of grpo\.correction=tis is grpo\.ratio_high"),
    ],
)
def test_names_of_other_trainers_are_refused_with_ours(key: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        load("tiny", [key])


def test_groups_without_a_gradient_are_kept_only_where_they_carry_something() -> None:
    with pytest.raises(ConfigError, match=r"grpo\.filter = false .* set grpo\.beta, or grpo\.filter=true"):
        load("tiny", ["grpo.filter=false", "grpo.beta=0"])
    assert not load("tiny", ["grpo.filter=false"]).grpo.filter
    assert load("tiny", ["grpo.filter=false", "grpo.beta=0", "grpo.overlong=penalty"]).grpo.beta == 0


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_resolved_config_loads_back_with_every_correction(correction: str, tmp_path: Path) -> None:
    config = load("tiny", [f"grpo.correction={correction}"])
    file = tmp_path / "config.yaml"
    file.write_text(dump(config))
    assert load(file) == config
