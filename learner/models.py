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
from transformers.utils import logging

# A learner has no terminal: progress bars and tables of what was loaded only fill its log. Missing weights are an error
# below.
logging.disable_progress_bar()
logging.set_verbosity_error()

HEAD = "score.weight"  # parameter of the scalar head


def load_policy(path: str, dtype: str) -> PreTrainedModel:
    """Return the causal LM in `path`, without dropout (its log-probs must be those of the rollouts)."""
    return _load(AutoModelForCausalLM, path, _config(path), dtype, new=set())


def load_classifier(path: str, dtype: str) -> PreTrainedModel:
    """Return the model in `path` with a scalar head, read at the last token; a new head starts at 0 (p = 1/2).

    `pad_token_id` becomes a special token that ends no completion, because Hugging Face's classifiers read the score at
    the last token that is *not* padding; without such a token only single rows can be scored there.
    """
    config = _config(path)
    fresh = "SequenceClassification" not in "".join(config.architectures or ())
    config.num_labels = 1
    config.pad_token_id = _padding(path, config)
    model = _load(AutoModelForSequenceClassification, path, config, dtype, new={HEAD} if fresh else set())
    if fresh:
        _fill_zero(model.get_parameter(HEAD))
    return model


def load_scorer(path: str, dtype: str) -> PreTrainedModel:
    """Return the trained meta-RM in `path`.

    Raises:
        ValueError: the folder holds no classifier, so its head would be a new one.
    """
    if "SequenceClassification" not in "".join(_config(path).architectures or ()):
        raise ValueError(f"{path}: is no meta-RM (a model with a scalar head); give checkpoints/meta-rm/version-*/model")
    return load_classifier(path, dtype)


def save_model(model: PreTrainedModel, state: dict[str, Tensor], source: str, folder: Path) -> None:
    """Write a folder that transformers and vLLM load.

    Args:
        model: the model.
        state: its whole weights.
        source: folder or hub name with the model's tokenizer.
        folder: where to write.
    """
    model.save_pretrained(folder, state_dict=state)
    AutoTokenizer.from_pretrained(source, trust_remote_code=False, mistral_format=False).save_pretrained(folder)


def _config(path: str) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    for name in ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def _load(kind: Any, path: str, config: PretrainedConfig, dtype: str, *, new: set[str]) -> PreTrainedModel:
    """Load a model of a transformers auto class.

    Raises:
        ValueError: a weight that is not in `new` is not in `path` (it would start at random, silently).
    """
    # Only the eager attention applies Gemma-2's cap on attention logits; the fused kernel leaves it out silently.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    model, info = kind.from_pretrained(
        path,
        config=config,
        dtype=getattr(torch, dtype),
        attn_implementation="eager" if capped else "sdpa",
        output_loading_info=True,
        trust_remote_code=False,  # never the folder's own code, and never a question on a terminal
    )
    missing = sorted(set(info["missing_keys"]) - new)
    if missing or info["mismatched_keys"]:
        wrong = [*missing, *info["mismatched_keys"]][:5]
        raise ValueError(f"{path}: weights are missing or of another shape: {wrong}; is it a whole model folder?")
    return cast(PreTrainedModel, model)


def _padding(path: str, config: PretrainedConfig) -> int | None:
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, mistral_format=False)
    ends = {tokenizer.eos_token_id}
    ends |= set(config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id])
    candidates = [tokenizer.pad_token_id, *tokenizer.all_special_ids]
    return next((token for token in candidates if token is not None and token not in ends), None)


def _fill_zero(weight: Tensor) -> None:
    """Set it to 0 in place, also where this rank holds only its partition (ZeRO 3)."""
    with torch.no_grad():
        getattr(weight, "ds_tensor", weight).zero_()
