"""Hugging Face models as the learners use them: loaded for training, and saved so that others can load them."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)


def load_policy(path: str, dtype: str) -> PreTrainedModel:
    """The causal LM in ``path``, without dropout (its log-probs must be those of the rollouts)."""
    config = _config(path)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, config=config, **_options(config, dtype))
    return model


def load_classifier(path: str, dtype: str) -> PreTrainedModel:
    """The model in ``path`` with one scalar per sequence, read at its last token; a new head starts at 0 (p = 1/2).

    ``pad_token_id`` becomes a special token that ends no completion, because Hugging Face's classifiers read the
    score at the last token that is *not* padding; without such a token only single rows can be scored there.
    """
    config = _config(path)
    fresh = "SequenceClassification" not in "".join(config.architectures or ())
    config.num_labels = 1
    config.pad_token_id = _padding(path, config)
    options = _options(config, dtype)
    model: Any = AutoModelForSequenceClassification.from_pretrained(path, config=config, **options)
    if fresh:
        _fill_zero(model.score.weight)
    return cast(PreTrainedModel, model)


def save_model(model: PreTrainedModel, state: dict[str, Tensor], source: str, folder: Path) -> None:
    """Writes ``state`` (whole weights of ``model``) as a folder that transformers and vLLM load.

    Args:
        source: where the tokenizer of the model is.
    """
    model.save_pretrained(folder, state_dict=state)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def _config(path: str) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(path)
    for name in ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def _options(config: PretrainedConfig, dtype: str) -> dict[str, Any]:
    # Only the eager attention applies Gemma-2's cap on attention logits; the fused kernel leaves it out silently.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return {"dtype": getattr(torch, dtype), "attn_implementation": "eager" if capped else "sdpa"}


def _padding(path: str, config: PretrainedConfig) -> int | None:
    tokenizer = AutoTokenizer.from_pretrained(path)
    ends = {tokenizer.eos_token_id}
    ends |= set(config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id])
    candidates = [tokenizer.pad_token_id, *tokenizer.all_special_ids]
    return next((token for token in candidates if token is not None and token not in ends), None)


def _fill_zero(weight: Tensor) -> None:
    """In place, also where this rank holds only its part (ZeRO 3)."""
    with torch.no_grad():
        getattr(weight, "ds_tensor", weight).zero_()
