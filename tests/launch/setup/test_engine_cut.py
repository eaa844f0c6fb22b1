"""Numbers of processes that an engine can cut a model over."""

from pathlib import Path

import pytest

from configs.load import ConfigError, load
from launch.setup.engine_cut import check_tensor_parallel
from launch.setup.preflight import prepare_run

SMALL = {"num_attention_heads": 12, "num_key_value_heads": 4}


def test_both_kinds_of_heads_are_divided() -> None:
    for processes in (1, 2, 4):
        check_tensor_parallel(load("tiny", [f"rollout.tensor_parallel={processes}"]), SMALL)
    with pytest.raises(
        ConfigError, match=r"= 3 does not divide the model's num_key_value_heads = 4: .* over 1, 2, 4 processes"
    ):
        check_tensor_parallel(load("tiny", ["rollout.tensor_parallel=3"]), SMALL)
    with pytest.raises(ConfigError, match=r"= 8 does not divide the model's num_attention_heads = 12"):
        check_tensor_parallel(load("tiny", ["rollout.tensor_parallel=8"]), {"text_config": SMALL})


def test_nothing_is_said_of_a_model_that_nobody_knows() -> None:
    check_tensor_parallel(load("tiny", ["rollout.tensor_parallel=7"]), None)
    check_tensor_parallel(load("tiny", ["rollout.tensor_parallel=7"]), {"model_type": "x"})


def test_the_preflight_refuses_an_odd_cut(tmp_path: Path) -> None:
    """The small model has four heads."""
    with pytest.raises(ConfigError, match=r"rollout\.tensor_parallel = 3 does not divide .* over 1, 2, 4 processes"):
        prepare_run(load("tiny", ["rollout.tensor_parallel=3", f"run.dir={tmp_path}"]), preset="tiny")
    assert list(tmp_path.iterdir()) == []
