"""Hugging Face models as the learners use them: loaded for training, and saved so that others can load them."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file, logging

from buffer import files
from learner.checkpoint import UNFINISHED, make_folder

# A learner has no terminal: progress bars and tables of what was loaded only fill its log. Missing weights are an error
# below.
logging.disable_progress_bar()
logging.set_verbosity_error()

HEAD = "score.weight"  # parameter of the scalar head
CONFIG, GENERATION = "config.json", "generation_config.json"


def load_policy(path: str, dtype: str) -> PreTrainedModel:
    """Return the causal LM in `path`, without dropout (its log-probs must be those of the rollouts)."""
    return _load(AutoModelForCausalLM, path, read_config(path), dtype, new=set())


def load_classifier(path: str, dtype: str) -> PreTrainedModel:
    """Return the model in `path` with a scalar head, read at the last token; a new head starts at 0 (p = 1/2).

    `pad_token_id` becomes a special token that ends no completion, because Hugging Face's classifiers read the score at
    the last token that is *not* padding; without such a token only single rows can be scored there.
    """
    config = read_config(path)
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
    if "SequenceClassification" not in "".join(read_config(path).architectures or ()):
        raise ValueError(f"{path}: is no meta-RM (a model with a scalar head); give checkpoints/meta-rm/version-*/model")
    return load_classifier(path, dtype)


def save_model(model: PreTrainedModel, state: dict[str, Tensor], source: str, folder: Path) -> None:
    """Write a folder that transformers and vLLM load.

    How text is generated with the model is no concern of training: what its folder says about that is copied and not judged.

    Args:
        model: the model.
        state: its whole weights.
        source: folder or hub name that the model was loaded from.
        folder: where to write.
    """
    model.generation_config = GenerationConfig()  # transformers refuses to write some that it has read
    model.save_pretrained(folder, state_dict=dict(state))
    AutoTokenizer.from_pretrained(source, trust_remote_code=False, mistral_format=False).save_pretrained(folder)
    (folder / GENERATION).unlink(missing_ok=True)
    if generation := cached_file(source, GENERATION, _raise_exceptions_for_missing_entries=False):
        shutil.copyfile(generation, folder / GENERATION)
    written, read = json.loads((folder / CONFIG).read_text()), PretrainedConfig.get_config_dict(source)[0]
    # transformers takes settings of generation, which old models have there, from a config that it loads
    kept = {name: read[name] for name in GenerationConfig().to_dict() if name in read and not hasattr(model.config, name)}
    files.write(folder / CONFIG, json.dumps(written | kept, indent=2, sort_keys=True) + "\n")


def try_saving(model: PreTrainedModel, source: str, folder: Path) -> None:
    """Write all that `save_model` writes, but without weights, under `folder`, and remove it.

    What cannot be saved is thus found before the first step and not at the first checkpoint.

    Raises:
        ValueError: it cannot be saved, for another reason than the disk.
    """
    make_folder(folder)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as trial:
        try:
            save_model(model, {}, source, Path(trial))
        except OSError:
            raise
        except Exception as error:  # of any kind: it is another model's code for each architecture
            why = f"{type(error).__name__}: {error}"
            raise ValueError(f"{type(model).__name__} of {source} could not be saved: {why}; mend its folder") from error


def saved_buffers(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return what is saved with a model's weights although it is not trained, as the bias of a router's scores."""
    saved = model.state_dict().keys()
    return {name: buffer.detach() for name, buffer in model.named_buffers() if name in saved}


def read_config(path: str) -> PretrainedConfig:
    """Return the config of the model in `path`, without dropout. ValueError when its weights are quantised."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        raise ValueError(f"{path}: its weights are quantised and cannot be trained; give the model that it was made from")
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
