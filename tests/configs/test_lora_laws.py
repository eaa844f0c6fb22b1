"""Where adapters are trained, each rank holds the whole model."""

import pytest

from configs.load import ConfigError, load


@pytest.mark.parametrize("section", ["learner", "meta_rm"])
def test_zero_stage_3_is_refused(section: str) -> None:
    stage = f"{section}.zero_stage=3"
    with pytest.raises(
        ConfigError, match=rf"learner\.lora_rank = 8 and {section}\.zero_stage = 3: .*set {section}\.zero_stage=1"
    ):
        load("tiny", ["learner.lora_rank=8", stage])
    load("tiny", [stage])
    load("tiny", ["learner.lora_rank=8", f"{section}.zero_stage=2"])


def test_a_meta_rm_that_is_not_trained_has_no_say() -> None:
    load("tiny", ["learner.lora_rank=8", "meta_rm.zero_stage=3", "meta_rm.enabled=false"])


@pytest.mark.parametrize("rank", [-1, 513, 1.5])
def test_a_rank_is_a_number_that_engines_have_room_for(rank: float) -> None:
    with pytest.raises(ConfigError, match=r"learner\.lora_rank"):
        load("tiny", [f"learner.lora_rank={rank}"])
