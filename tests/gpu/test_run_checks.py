"""The checks of whole runs on a CPU, with tiny models."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.small import passes


@pytest.mark.full
@pytest.mark.parametrize("part", ["tiny_run", "model_run"])
def test_on_a_small_model_it_passes(part: str, tmp_path: Path) -> None:
    module: Any = import_module(f"tests.gpu.{part}_checks")
    with module.prepared("cpu", tmp_path) as subject:
        for check in module.CHECKS:
            passes(check, subject)
