"""LoRA adapters: they begin as nothing, are switched off to the bit, and are merged and read by others as what they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from learner import adapters, batching, models
from learner.adapters import ALPHA, SETTINGS, WEIGHTS, adapted, file_state, merge, merged, planned_shape, switched_off, targets
from learner.logprobs import TokenLogProbs
from tests import random_models

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
COMPLETION = tuple(range(30, 50))


def logprobs(model: Any) -> Tensor:
    """Of some tokens of a completion behind a prompt."""
    rows = batching.pack_rows([((5, 6, 7), [COMPLETION])], 64, share=False)
    with torch.no_grad():
        found: Tensor = TokenLogProbs(model, temperature=1.0)(batching.collate(rows, [COMPLETION]))[0]
    return found


def trained(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """A model whose adapters are no longer 0, as after some steps."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def state_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def load(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    return models.load_policy(str(folder), dtype, "cpu")


# ---- in the model ----------------------------------------------------------------------------------------------------


def test_they_begin_as_nothing_and_are_all_that_is_trained(model: Path) -> None:
    plain, with_adapters = load(model), adapted(load(model), rank=4, seed=1)
    assert torch.equal(logprobs(plain), logprobs(with_adapters))
    trainable = {name for name, parameter in with_adapters.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in with_adapters.named_parameters() if "lora_" in name}
    assert len(trainable) == 2 * len(LINEAR) * 2, "A and B at each linear layer of two layers"


def test_rank_0_is_the_model_as_it_was(model: Path) -> None:
    plain = load(model)
    assert adapted(plain, rank=0, seed=1) is plain
    assert all(parameter.requires_grad for parameter in plain.parameters())
    state = state_of(plain)
    assert merged(state, plain) == state


def test_they_are_a_function_of_the_seed_and_leave_torchs_own_stream_alone(model: Path) -> None:
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    first, again, other = (file_state(state_of(adapted(load(model), rank=4, seed=seed))) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "lora_A" in name)


def test_switched_off_it_is_what_it_was_to_the_bit_and_then_goes_on(model: Path) -> None:
    before, changed = logprobs(load(model)), trained(adapted(load(model), rank=4, seed=1))
    after = logprobs(changed)
    assert (after - before).abs().max() > 0.1
    with switched_off(changed):
        assert torch.equal(logprobs(changed), before)
    assert torch.equal(logprobs(changed), after)
    with pytest.raises(ZeroDivisionError), switched_off(changed):
        1 / 0  # noqa: B018
    assert torch.equal(logprobs(changed), after), "they are on again after an error, too"
    assert all(parameter.requires_grad == ("lora_" in name) for name, parameter in changed.named_parameters())


def test_they_stand_at_the_linear_layers_between_embedding_and_head(model: Path, tmp_path: Path) -> None:
    assert targets(load(model)) == LINEAR
    untied = random_models.make(tmp_path / "untied", "llama", tied=False)
    assert targets(load(untied)) == LINEAR, "an own head is none of them"
    assert targets(models.load_classifier(str(model), "float32", "cpu")) == LINEAR
    shape = planned_shape(str(model), 4)
    assert shape == adapters.shape(adapted(load(model), rank=4, seed=1))
    assert (shape.rank, shape.alpha, list(shape.targets)) == (4, 32, LINEAR)
    assert planned_shape(str(model), 0) is None


@pytest.mark.parametrize(("kind", "why"), [("qwen3_moe", r"Qwen3MoeForCausalLM.*experts"), ("gpt2", "no linear layers")])
def test_a_model_without_a_place_for_them_is_refused(tmp_path: Path, kind: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"{why}.*set learner\.lora_rank=0"):
        planned_shape(str(random_models.make(tmp_path / "m", kind)), 4)


def test_the_head_of_a_classifier_is_trained_with_them(model: Path) -> None:
    classifier = adapted(models.load_classifier(str(model), "float32", "cpu"), rank=2, seed=0)
    trainable = {name for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    assert {name for name in trainable if "lora_" not in name} == {"score.weight"}
    assert "score.weight" in merged(state_of(classifier), classifier)


def test_they_have_the_number_format_of_the_model(model: Path) -> None:
    assert {parameter.dtype for parameter in adapted(load(model, "bfloat16"), rank=4, seed=1).parameters()} == {torch.bfloat16}


# ---- merged ----------------------------------------------------------------------------------------------------------


class OneLayer(PreTrainedModel):
    """A model of one linear layer of 2 x 2."""

    config_class = PretrainedConfig
    base_model_prefix = "model"

    def __init__(self) -> None:
        super().__init__(PretrainedConfig())
        self.model = nn.Sequential()
        self.model.add_module("q_proj", nn.Linear(2, 2))


def test_merged_by_hand() -> None:
    """W + (32 / 2) B A with W = 1, A = (1 2; 0 1), B = (1 0; 0 3), hence B A = (1 2; 0 3)."""
    module = adapted(OneLayer(), rank=2, seed=0)
    layer: Any = module.get_submodule("model.q_proj")
    with torch.no_grad():
        layer.base_layer.weight.copy_(torch.eye(2))
        layer.lora_A.default.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
        layer.lora_B.default.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    assert ALPHA == 32
    whole = merged(state_of(module), module)
    assert whole["model.q_proj.weight"].tolist() == [[17.0, 32.0], [0.0, 49.0]]
    assert whole.keys() == {"model.q_proj.weight", "model.q_proj.bias"}


def test_merged_weights_have_the_log_probs_of_the_adapters(model: Path) -> None:
    changed, plain = trained(adapted(load(model), rank=4, seed=1)), load(model)
    expected, before = logprobs(changed), logprobs(plain)
    whole = merged(state_of(changed), changed)
    assert whole.keys() == state_of(plain).keys()
    plain.load_state_dict(whole, strict=False)
    assert (logprobs(plain) - expected).abs().max() < 1e-4
    assert (before - expected).abs().max() > 0.1
    assert torch.equal(logprobs(changed), expected), "merging changes nothing in the model"


# ---- in a folder -----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(model: Path, tmp_path: Path) -> tuple[PreTrainedModel, Path]:
    """A model with adapters, and the folder that they were saved in."""
    changed = trained(adapted(load(model), rank=4, seed=1))
    adapters.save(changed, state_of(changed), str(model), tmp_path / "adapter")
    return changed, tmp_path / "adapter"


def test_peft_reads_the_folder(model: Path, saved: tuple[PreTrainedModel, Path]) -> None:
    changed, folder = saved
    assert {path.name for path in folder.iterdir()} == {SETTINGS, WEIGHTS}
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), folder)
    assert read.peft_config["default"].base_model_name_or_path == str(model)
    assert torch.equal(logprobs(read.base_model.model), logprobs(changed))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_folder_is_a_whole_model_in_the_number_format_of_the_adapters(model: Path, tmp_path: Path, dtype: str) -> None:
    changed = trained(adapted(load(model, dtype), rank=4, seed=1))
    adapters.save(changed, state_of(changed), str(model), tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "whole", adapters.base_of(tmp_path / "adapter"))
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert str(read.dtype) == f"torch.{dtype}"
    assert (logprobs(read) - logprobs(changed)).abs().max() < {"float32": 1e-4, "bfloat16": 0.3}[dtype]
    by_peft = PeftModel.from_pretrained(load(model, dtype), tmp_path / "adapter", autocast_adapter_dtype=False)
    assert torch.equal(logprobs(read), logprobs(by_peft.merge_and_unload()))
    assert {path.name for path in model.iterdir()} <= {path.name for path in (tmp_path / "whole").iterdir()}


def test_adapters_of_another_model_are_refused(saved: tuple[PreTrainedModel, Path], tmp_path: Path) -> None:
    other = random_models.make(tmp_path / "other", "llama", num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"layers\.1\..*None in .*other; are the adapters those of this model"):
        merge(saved[1], tmp_path / "whole", str(other))
    assert not (tmp_path / "whole").exists()


def test_a_folder_that_lacks_an_adapter_is_refused(model: Path, saved: tuple[PreTrainedModel, Path], tmp_path: Path) -> None:
    tensors = load_file(saved[1] / WEIGHTS)
    del tensors[max(tensors)]
    save_file(tensors, saved[1] / WEIGHTS)
    with pytest.raises(ValueError, match=r"v_proj\.lora_B\.weight: None in .*adapter"):
        merge(saved[1], tmp_path / "whole", str(model))
