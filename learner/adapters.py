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
ROW_FACTOR, COLUMN_FACTOR = f".lora_A.{NAME}.", f".lora_B.{NAME}."
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
    kept = (name for name in state if ROW_FACTOR in name or COLUMN_FACTOR in name)
    return {PREFIX + name.replace(f".{NAME}.", "."): state[name] for name in kept}


def merged(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return whole weights with the adapters added to them: W + (alpha / r) B A, under the names of the model without adapters.

    Args:
        state: whole weights of a model with adapters, on the CPU; of one without they are returned as they are.
        model: the model. Its adapters are whole on this rank.
    """
    whole = {name.replace(BASE, "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    if state:
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


def merge(folder: Path, out: Path, *, base: str = "") -> str:
    """Write the whole model of a folder of adapters, in the number format of the adapters: transformers and vLLM load it.

    Args:
        folder: in peft's format.
        out: where to write; it is made.
        base: the model that they belong to, where it does not lie where the folder says.

    Returns:
        The folder or hub name of that model.

    Raises:
        ValueError: the adapters are not those of the model, or no LoRA.
        OSError: a file or the model cannot be read.
    """
    from peft import LoraConfig, PeftConfig, inject_adapter_in_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    settings, tensors = PeftConfig.from_pretrained(str(folder)), load_file(folder / WEIGHTS)
    if not isinstance(settings, LoraConfig) or not tensors:
        raise ValueError(f"{folder} holds no LoRA adapters")
    source = base or str(settings.base_model_name_or_path)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    model = models.load_policy(source, dtype)
    settings.inference_mode = False
    inject_adapter_in_model(settings, model, adapter_name=NAME)
    wanted = file_state(dict(model.named_parameters()))
    if odd := [*(wanted.keys() ^ tensors.keys()), *(name for name in wanted if wanted[name].shape != tensors[name].shape)]:
        raise ValueError(f"{folder}: {min(odd)} is not in both the adapters and {source}, in one shape; is that their model?")
    set_peft_model_state_dict(model, tensors, adapter_name=NAME)
    state = {name: parameter.detach() for name, parameter in model.named_parameters()} | models.saved_buffers(model)
    models.save_model(model, merged(state, model), source, out)
    return source


def _settings(model: Any) -> Any:
    return model.peft_config[NAME]


def _layers(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the linear layers that have an adapter, by name."""
    from peft.tuners.lora import LoraLayer

    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLayer)]
