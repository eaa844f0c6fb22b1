"""Operations of a step, worked by hand, and peaks by name."""

import json
from pathlib import Path

import pytest

from tests import random_models
from tests.gpu.flops import Matrices, forward, matrices, peak


def test_worked_numbers() -> None:
    """A prompt of 2 with completions of 1 and 2: 3 + (2 + 1) + (4 + 3) = 13 pairs; 2 x 100 x 5 + 2 x 10 x 3 + 4 x 6 x 13."""
    model = Matrices(layers=100, head=10, attention=6)
    assert forward(model, [(2, (1, 2))]) == 1000 + 60 + 312
    assert forward(model, [(2, (1, 2)), (2, (1, 2))]) == 2 * forward(model, [(2, (1, 2))])


def test_the_matrices_are_those_of_the_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = random_models.make(tmp_path, "qwen3")
    config = json.loads((folder / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder)
    found = matrices(config)
    weights = [p for name, p in model.model.layers.named_parameters() if p.dim() == 2]
    assert found.layers == sum(p.numel() for p in weights)
    assert found.head == model.get_output_embeddings().weight.numel()
    assert found.attention == 2 * 64


@pytest.mark.parametrize(
    ("card", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA Something 9", None),
    ],
)
def test_a_card_is_known_by_its_name(card: str, tera: float | None) -> None:
    assert peak(card) == (None if tera is None else tera * 1e12)
