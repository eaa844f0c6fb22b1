"""Models as they are loaded, and their weights as they are published."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from buffer.weights import Edition
from learner.models import load_classifier, load_policy
from learner.weight_export import to_published_weights


def test_a_model_whose_weights_are_not_all_there_is_refused(model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(model / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (load_policy, load_classifier):
        with pytest.raises(ValueError, match=r"weights are missing.*model\.norm\.weight"):
            load(str(tmp_path), "float32")


def test_weights_travel_as_they_are_in_either_precision(model: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        state = dict(load_policy(str(model), dtype).named_parameters())
        sealed = to_published_weights(3, {name: parameter.detach() for name, parameter in state.items()})
        sealed.verify(newer_than=Edition(0, 2))
        assert set(sealed.dtypes.values()) == {dtype}
        for name, parameter in state.items():
            back = torch.from_numpy(sealed.arrays[name].copy()).view(getattr(torch, dtype))
            assert torch.equal(back, parameter)
