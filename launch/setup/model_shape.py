"""The shape of a model: all that memory, cache and time depend on. Read from its config.json, which is found by name.

folder ─▶ config.json ─┐
hub name ─▶ the hub's cache, `PUBLISHED`, or the hub itself ─▶ config.json ─▶ ModelShape
                       └─ none of them ─▶ model.billions and the nearest published shape
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, sqrt
from pathlib import Path
from typing import Any

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.hub import cached_folder, hub_config
from launch.setup.model_files import architecture
from launch.setup.published_models import PUBLISHED


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """What a plan needs of a transformer."""

    parameters: float
    """All of them, tied ones once."""
    active: float
    """Those that a token passes through: without the experts that it is not sent to."""
    layers: int
    """Transformer layers."""
    hidden: int
    """Width of the hidden states."""
    intermediate: int
    """Width of the MLP; of a mixture, of all experts of a token together."""
    heads: int
    """Attention heads."""
    vocabulary: int
    """Rows of the embedding."""
    cached: int
    """Numbers that the KV cache holds of a token in a layer."""
    kv_heads: int = 0
    """Heads of keys and values; 0: not known."""
    linear: int = 0
    """Rows and columns of all linear layers between embedding and head, added up: LoRA trains r numbers for each."""
    capped: bool = False
    """Whether attention logits are capped, as Gemma-2's, which plain fused kernels cannot do."""
    guessed_from: str = ""
    """The published model whose shape stands in for an unknown one; "" where the shape is the model's own."""


WIDTHS = ("hidden", "intermediate", "vocabulary", "cached", "linear")  # fields that grow with the width of a model


def found_shape(config: Config, model: str, *, scalar_head: bool = False) -> ModelShape:
    """Returns the shape of a model, from its config.json or else guessed from `model.billions`.

    Args:
        config: The run's.
        model: Folder or hub name.
        scalar_head: Whether it is the meta-RM that is made of it.

    Raises:
        ConfigError: Neither is there, or transformers knows no such model of this kind.
    """
    arch = model_config(model)
    if arch is not None:
        return shape_of(arch, scalar_head=scalar_head)
    if config.model.billions:
        return guessed_shape(config.model.billions * 1e9)
    why = hub_config(model)[1]
    raise ConfigError(
        f"model.path = {config.model.path!r}: its config.json is not on this disk, and the hub gave none ({why}): give"
        " model.billions for the plan"
    )


def parameters(config: Config, model: str, *, scalar_head: bool = False) -> float:
    """Returns the parameters of a model; arguments and errors as of `found_shape`."""
    return found_shape(config, model, scalar_head=scalar_head).parameters


def model_config(model: str) -> Mapping[str, Any] | None:
    """Returns the config.json of a folder or hub name; None when the hub does not give it. ConfigError as of `architecture`."""
    if Path(model).is_dir():
        return architecture(model)
    if (folder := cached_folder(model)) is not None:
        return architecture(str(folder))
    return PUBLISHED.get(model) or hub_config(model)[0]


def guessed_shape(count: float) -> ModelShape:
    """Returns the shape of an unknown model of so many parameters: the published one nearest in size, as deep, and as much
    wider or narrower as makes up the difference (parameters go with the square of the width)."""
    shapes = {name: shape_of(arch) for name, arch in PUBLISHED.items()}
    name, near = min(shapes.items(), key=lambda item: abs(log(item[1].parameters / count)))
    wider = sqrt(count / near.parameters)
    return replace(
        near,
        parameters=count,
        active=count,
        guessed_from=name,
        **{field: max(1, round(getattr(near, field) * wider)) for field in WIDTHS},
    )


def trained_parameters(config: Config, model: str) -> float:
    """Returns how many parameters of a model are trained, and published: all, or those of its adapters."""
    shape = found_shape(config, model)
    return config.learner.lora_rank * shape.linear or shape.parameters


def parameters_of(arch: Mapping[str, object], *, scalar_head: bool = False) -> float:
    """Returns the parameters of the model with this config.json; arguments and errors as of `shape_of`."""
    return shape_of(arch, scalar_head=scalar_head).parameters


def shape_of(arch: Mapping[str, object], *, scalar_head: bool = False) -> ModelShape:
    """Returns the shape of the model with this config.json, as transformers builds it: from shapes, without memory.

    It imports torch and the model's code.

    Args:
        arch: The config.json.
        scalar_head: Whether the model has a scalar head, as the meta-RM, in place of that of a language model.

    Raises:
        ConfigError: transformers knows no such model of this kind.
    """
    return _shape(json.dumps(arch, sort_keys=True), scalar_head)


@lru_cache
def _shape(config_json: str, scalar_head: bool) -> ModelShape:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    fields = json.loads(config_json)
    kind = fields.pop("model_type", None)
    made_by = AutoModelForSequenceClassification if scalar_head else AutoModelForCausalLM
    try:
        config = AutoConfig.for_model(kind, **fields)
        config.num_labels = 1
        with torch.device("meta"):
            model = made_by.from_config(config, attn_implementation="eager", trust_remote_code=False)
    except Exception as error:  # of any kind: it is another model's code for each architecture
        what = "model with a scalar head, so no meta-RM (set meta_rm.enabled=false)" if scalar_head else "causal language model"
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the model's config.json (model_type {kind!r}) makes no {what}: {why}") from error
    count = float(sum(parameter.numel() for parameter in model.parameters()))
    layers = (module for module in model.base_model.modules() if isinstance(module, torch.nn.Linear))
    return _described(config.get_text_config(), count, linear=sum(each.in_features + each.out_features for each in layers))


def _described(text: Any, count: float, *, linear: int) -> ModelShape:
    """The shape of a model with this config of transformers, which knows the names that each architecture has for them."""

    def number(*names: str) -> int:
        """The first of these that it has, 0 without one."""
        return next((value for name in names if isinstance(value := getattr(text, name, None), int)), 0)

    hidden, layers, heads = text.hidden_size, text.num_hidden_layers, text.num_attention_heads
    wide = number("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    experts, chosen = number("num_local_experts", "num_experts", "n_routed_experts"), number("num_experts_per_tok")
    expert = number("moe_intermediate_size") or wide
    head = number("head_dim") or hidden // heads
    latent = number("kv_lora_rank")  # of DeepSeek's attention, which caches this and a part with positions
    sparse = layers - number("first_k_dense_replace")
    return ModelShape(
        parameters=count,
        active=count - 3 * hidden * expert * sparse * (experts - chosen),  # an expert has three matrices
        layers=layers,
        hidden=hidden,
        intermediate=max(wide if not experts else 0, expert * (chosen + number("n_shared_experts"))),
        heads=heads,
        kv_heads=number("num_key_value_heads") or heads,
        vocabulary=text.vocab_size,
        cached=latent + number("qk_rope_head_dim") if latent else 2 * head * (number("num_key_value_heads") or heads),
        linear=linear,
        capped=getattr(text, "attn_logit_softcapping", None) is not None,
    )
