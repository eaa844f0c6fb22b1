"""The door to engines asks each of its checks."""

import pytest

from configs.load import ConfigError, load
from launch.setup.engine_checks import check_engines


@pytest.mark.parametrize(
    ("overrides", "arch", "message"),
    [
        ([], {"hidden_size": 64, "num_attention_heads": 4}, "have 16 numbers each"),
        (["rollout.tensor_parallel=3"], {"num_attention_heads": 4, "head_dim": 32}, r"rollout\.tensor_parallel"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(overrides: list[str], arch: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_engines(load("tiny", overrides), arch)


def test_what_it_can_do_passes() -> None:
    check_engines(load("tiny"), {"num_attention_heads": 4, "head_dim": 32})
