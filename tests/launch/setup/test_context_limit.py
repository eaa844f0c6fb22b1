"""How much a model can read, wherever its config.json says so."""

from typing import Any

import pytest

from configs.load import ConfigError, load
from launch.setup.context_limit import check_context, context_limit

LIMITS: list[tuple[dict[str, Any], int | None]] = [
    ({"max_position_embeddings": 512}, 512),
    ({"model_type": "gpt2", "n_positions": 256, "n_embd": 64}, 256),
    ({"max_seq_len": 300}, 300),
    ({"seq_length": 400, "max_position_embeddings": 500}, 400),
    ({"text_config": {"max_position_embeddings": 512}, "vision_config": {"max_position_embeddings": 16}}, 512),
    ({"max_position_embeddings": 99999, "text_config": {"max_position_embeddings": 512}}, 512),
    ({"max_position_embeddings": 512, "rope_scaling": {"type": "linear", "factor": 4.0}}, 2048),
    ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 1024),
    ({"max_position_embeddings": 512, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 512),
    ({"model_type": "gemma3", "text_config": {"max_position_embeddings": 512, "rope_scaling": {"rope_type": "linear"}}}, 512),
    ({"hidden_size": 64}, None),
    ({"max_position_embeddings": None, "rope_scaling": "none"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("arch", "limit"), LIMITS)
def test_the_limit_is_found_in_any_form_of_config(arch: dict[str, Any], limit: int | None) -> None:
    assert context_limit(arch) == limit


@pytest.mark.parametrize("arch", [arch for arch, limit in LIMITS if limit is not None])
def test_a_context_over_the_models_own_is_refused(arch: dict[str, Any]) -> None:
    limit = context_limit(arch)
    wide = ["learner.micro_tokens=8192", "meta_rm.micro_tokens=8192"]
    check_context(load("tiny", [f"model.context={limit}", *wide]), arch)
    with pytest.raises(ConfigError, match=f"model.context = {limit + 1} is over the model's own limit of {limit} tokens"):  # type: ignore[operator]
        check_context(load("tiny", [f"model.context={limit + 1}", *wide]), arch)  # type: ignore[operator]


def test_a_model_that_names_no_limit_has_none() -> None:
    check_context(load("tiny"), {})
    check_context(load("tiny"), None)
