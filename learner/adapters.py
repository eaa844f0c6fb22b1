"""LoRA adapters: small matrices that are trained beside the frozen weights of a model. All that knows peft.

    y = W x + (alpha / r) B A x        A: [r, in], random; B: [out, r], 0 at the start, so the model begins as it was

    model ─ adapted ─▶ model with adapters ─┬─ file_state ─▶ adapters alone: published, or in a folder of peft's format
                                            └─ merged ─▶ whole weights, W + (alpha / r) B A, under the model's own names

They stand at every linear layer between the embedding and the head (arXiv:2106.09685; that all layers need them, and alpha and
its quotient: J. Schulman and others, "LoRA Without Regret", Thinking Machines Lab, 2025).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from buffer.weights import AdapterShape
from learner import models

# With alpha / r as the factor the best learning rate hardly depends on r, and is about ten times that of all weights.
ALPHA = 32
NAME = "default"  # peft's name of the one adapter that a model has here
PREFIX = "base_model.model."  # of all names in a file of peft's format
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"  # the files of that format
BASE = ".base_layer."  # in the name of a frozen weight that has an adapter

M = TypeVar("M", bound=PreTrainedModel)


def adapted(model: M, *, rank: int, seed: int) -> M:
    """Return the same model with new adapters, and all else frozen but the head of a classifier.

    Args:
        model: as it was loaded.
        rank: r, the rank of the adapters; 0: the model is returned as it is, and all of it is trained.
        seed: of A.

    Raises:
        ValueError: the model has no linear layers, or has experts, which are none.
    """
    if not rank:
        return model
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=rank, lora_alpha=ALPHA, target_modules=targets(model))
    head = getattr(model, "score", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, model, adapter_name=NAME)
    if head is not None:
        head.requires_grad_(True)
    return model


def targets(model: PreTrainedModel) -> list[str]:
    """Return the last names of the linear layers between the embedding and the head, as `q_proj`.

    Raises:
        ValueError: as `adapted`.
    """
    base = cast(nn.Module, model.base_model)
    kind, remedy = type(model).__name__, "set learner.lora_rank=0, or train another model"
    if experts := next((name for name, parameter in base.named_parameters() if parameter.dim() > 2), None):
        raise ValueError(f"{kind}: LoRA adapters stand at linear layers, and {experts} is none (experts?); {remedy}")
    names = {name.rpartition(".")[2] for name, module in base.named_modules() if isinstance(module, nn.Linear)}
    if not names:
        raise ValueError(f"{kind} has no linear layers for LoRA adapters to stand at; {remedy}")
    return sorted(names)


def planned_shape(path: str, rank: int) -> AdapterShape | None:
    """Return the shape of the adapters that a causal LM will have, without its weights; None for rank 0.

    Args:
        path: folder or hub name of the model.
        rank: of the adapters.

    Raises:
        ValueError: as `adapted`.
    """
    if not rank:
        return None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(models.read_config(path), attn_implementation="eager", trust_remote_code=False)
    return AdapterShape(rank=rank, alpha=ALPHA, targets=tuple(targets(model)))


def shape(model: PreTrainedModel) -> AdapterShape:
    """Return what an engine must know of the adapters of a model."""
    settings = _settings(model)
    return AdapterShape(rank=settings.r, alpha=settings.lora_alpha, targets=tuple(sorted(settings.target_modules)))


@contextmanager
def switched_off(module: nn.Module) -> Iterator[None]:
    """Compute without adapters inside it: what the model was before training, to the bit."""
    layers = [layer for _, layer in _layers(module)]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def file_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters among the weights of a model under the names that they have in a file of peft's format.

    Example: `layers.0.q_proj.lora_A.default.weight` is `base_model.model.layers.0.q_proj.lora_A.weight` there.
    """
    return {PREFIX + name.replace(f".{NAME}.", "."): state[name] for name in sorted(_adapters_in(state))}


def merged(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return whole weights with the adapters added to them: W + (alpha / r) B A, under the names of the model without adapters.

    Args:
        state: whole weights of a model with adapters, on the CPU; of one without they are returned as they are.
        model: the model. Its adapters are whole on this rank.
    """
    if not any(BASE in name for name in state):
        return dict(state)
    whole = {name.replace(BASE, "."): state[name] for name in state.keys() - _adapters_in(state)}
    for name, layer in _layers(model):
        with torch.no_grad():
            whole[f"{name}.weight"] = whole[f"{name}.weight"] + layer.get_delta_weight(NAME).to("cpu")
    return whole


def save(model: PreTrainedModel, state: Mapping[str, Tensor], source: str, folder: Path) -> None:
    """Write the adapters of a model in peft's format, which names the model that they belong to.

    Args:
        model: the model.
        state: its trained weights.
        source: folder or hub name that the model was loaded from.
        folder: where to write; it is made.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    found = _settings(model)
    folder.mkdir(exist_ok=True)
    LoraConfig(
        r=found.r,
        lora_alpha=found.lora_alpha,
        target_modules=sorted(found.target_modules),
        base_model_name_or_path=source,
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(folder))
    save_file(file_state(state), folder / WEIGHTS, metadata={"format": "pt"})


def load(model: PreTrainedModel, folder: Path) -> None:
    """Load what `save` wrote into the adapters of a model. ValueError when they are those of another model."""
    from peft import set_peft_model_state_dict

    tensors = _read_weights(folder / WEIGHTS)
    _require_same(model, tensors, folder)
    set_peft_model_state_dict(model, tensors, adapter_name=NAME)


def base_of(folder: Path) -> str:
    """Return the folder or hub name of the model that the adapters in a folder belong to. ValueError when they are no LoRA."""
    return str(_read_settings(folder).base_model_name_or_path)


def merge(folder: Path, out: Path, source: str) -> None:
    """Write a model with the adapters of a folder merged into it, in their number format: transformers and vLLM load it.

    Args:
        folder: of adapters, in peft's format.
        out: where to write; it is made.
        source: folder or hub name of the model that they belong to.

    Raises:
        ValueError: the adapters are not those of the model, or no LoRA.
    """
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    tensors = _read_weights(folder / WEIGHTS)
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    if len(dtypes) != 1:
        raise ValueError(f"{folder}: adapters of one number format were expected, and found {sorted(dtypes)}")
    model = models.load_policy(source, dtypes.pop(), "cpu")
    inject_adapter_in_model(_read_settings(folder), model, adapter_name=NAME)
    _require_same(model, tensors, folder)
    state = {name: parameter.detach() for name, parameter in model.named_parameters()} | models.saved_buffers(model)
    set_peft_model_state_dict(model, tensors, adapter_name=NAME)
    models.save_model(model, merged(state, model), source, out)


def _require_same(model: PreTrainedModel, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """ValueError when a model has not the adapters that were read from a folder, by name and shape."""
    wanted = {name: tensor.shape for name, tensor in file_state(dict(model.named_parameters())).items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if odd := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        where = f"{found.get(odd[0])} in {folder}, {wanted.get(odd[0])} in {model.config._name_or_path}"
        raise ValueError(f"{odd[0]}: {where}; are the adapters those of this model?")


def _read_weights(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is not whole ({error}); restore it from a copy, or take another checkpoint") from error


def _read_settings(folder: Path) -> Any:
    from peft import LoraConfig

    settings = LoraConfig.from_json_file(str(folder / SETTINGS))
    if (kind := settings.get("peft_type")) != "LORA":
        raise ValueError(f"{folder}: its adapters are {kind}, no LoRA")
    return LoraConfig.from_peft_type(**settings)


def _adapters_in(state: Mapping[str, Tensor]) -> set[str]:
    """Return the names that are those of adapters."""
    return {name for name in state if f".lora_A.{NAME}." in name or f".lora_B.{NAME}." in name}


def _settings(model: Any) -> Any:
    return model.peft_config[NAME]


def _layers(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the linear layers that have an adapter, by name."""
    from peft.tuners.lora import LoraLayer

    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLayer)]
