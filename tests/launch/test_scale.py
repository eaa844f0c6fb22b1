"""How many rollout workers a person may ask for while the run scales itself."""

import re

import pytest

from configs.load import ConfigError, load
from launch.scale import require_in_bounds

SELF_SCALING = load("tiny", ["rollout.workers=2", "rollout.autoscale_min=2", "rollout.autoscale_max=4"])


@pytest.mark.parametrize("rollouts", [2, 3, 4])
def test_a_target_within_the_autoscalers_bounds_is_taken(rollouts: int) -> None:
    require_in_bounds(rollouts, SELF_SCALING)


@pytest.mark.parametrize("rollouts", [1, 5, 100])
def test_a_target_outside_them_is_refused_and_not_silently_overridden(rollouts: int) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--rollouts {rollouts}: the run scales itself between 2 and 4 workers")):
        require_in_bounds(rollouts, SELF_SCALING)


def test_without_autoscaling_any_number_is_taken() -> None:
    require_in_bounds(100, load("tiny"))
