"""Models as they are loaded and saved, and their weights as they are published."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from buffer.streams import Address
from buffer.weights import Edition
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMLearner
from learner.models import load_classifier, load_policy, save_model, saved_buffers, try_saving
from learner.weight_export import to_published_weights
from tests.learner.run_by_hand import Sink, config


def test_a_model_whose_weights_are_not_all_there_is_refused(model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(model / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (load_policy, load_classifier):
        with pytest.raises(ValueError, match=r"weights are missing.*model\.norm\.weight"):
            load(str(tmp_path), "float32", "cpu")


def test_weights_travel_as_they_are_in_either_precision(model: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        policy = load_policy(str(model), dtype, "cpu")
        state = dict(policy.named_parameters())
        sealed = to_published_weights(3, {name: parameter.detach() for name, parameter in state.items()}, policy)
        sealed.verify(newer_than=Edition(0, 2))
        assert set(sealed.dtypes.values()) == {dtype}
        for name, parameter in state.items():
            back = torch.from_numpy(sealed.arrays[name].copy()).view(getattr(torch, dtype))
            assert torch.equal(back, parameter)


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()} | saved_buffers(model)


@pytest.mark.parametrize("load", [load_policy, load_classifier])
def test_how_text_is_generated_is_copied_and_not_judged(load: Any, model: Path, tmp_path: Path) -> None:
    source, saved = tmp_path / "source", tmp_path / "saved"
    shutil.copytree(model, source)
    (source / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 3]}')
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"temperature": 0.7, "num_beams": 3}))
    loaded = load(str(source), "float32", "cpu")
    try_saving(loaded, str(source), tmp_path / "trials")
    assert not list((tmp_path / "trials").iterdir())
    save_model(loaded, state_of(loaded), str(source), saved)
    assert (saved / "generation_config.json").read_bytes() == (source / "generation_config.json").read_bytes()
    kept = json.loads((saved / "config.json").read_text())
    assert (kept["temperature"], kept["num_beams"]) == (0.7, 3)
    again, state = state_of(load(str(saved), "float32", "cpu")), state_of(loaded)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_a_model_that_says_nothing_about_generation_is_saved_so(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(model, source)
    (source / "generation_config.json").unlink(missing_ok=True)
    loaded = load_policy(str(source), "float32", "cpu")
    save_model(loaded, state_of(loaded), str(source), tmp_path / "saved")
    assert not (tmp_path / "saved" / "generation_config.json").exists()


def test_what_cannot_be_saved_ends_the_start_with_the_models_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise KeyError("odd")

    monkeypatch.setattr("transformers.PretrainedConfig.save_pretrained", refuse)
    places: dict[str, Any] = {"model_path": str(model), "address": Address("redis://unused", "r"), "checkpoints": tmp_path}
    learners: list[GRPOLearner | MetaRMLearner] = [
        GRPOLearner(config(model), rank=0, world=1, sink=Sink(), **places),
        MetaRMLearner(config(model), rank=0, world=1, **places),
    ]
    for learner in learners:
        with pytest.raises(ValueError, match=r"(?:CausalLM|Classification) of .* could not be saved: KeyError: 'odd'"):
            learner.start(*learner.rendezvous())
        learner._ranks.leave()
    assert not list(tmp_path.iterdir())
