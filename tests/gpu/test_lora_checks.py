"""The checks of adapters in a card's engine on a CPU, with a tiny model."""

from pathlib import Path

import pytest

from tests.gpu import lora_checks
from tests.gpu.small import passes


@pytest.mark.full
def test_on_a_small_model_it_passes(tmp_path: Path) -> None:
    with lora_checks.prepared("cpu", tmp_path) as subject:
        for check in lora_checks.CHECKS:
            passes(check, subject)
