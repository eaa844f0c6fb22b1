"""All parts of the check on a card: `python -m pytest -m gpu`. `make gpu-check` runs the same, and writes its figures down."""

from pathlib import Path

import pytest
import torch

from tests.gpu.check import run_part
from tests.gpu.parts import PARTS

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(autouse=True)
def card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no NVIDIA card that torch can use; the other tests of tests/gpu are for CPUs")


@pytest.mark.parametrize("name", PARTS)
def test_a_part_passes(name: str, tmp_path: Path) -> None:
    result = run_part(name, "cuda", tmp_path, PARTS[name].seconds)
    assert [figure for figure in result.figures if figure["state"] in ("failed", "not run")] == []
    assert result.state == "passed"
