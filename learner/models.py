"""Hugging Face models as the learners use them: loaded for training, and saved so that others can load them."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from buffer import files
from learner.attention import block_sparse, by_segment
from learner.checkpoint import UNFINISHED, make_folder
from learner.shared_prefix import ARCHITECTURES, BLOCK_SPARSE, BY_SEGMENT, supports_shared_prefix

# A learner has no terminal: progress bars and tables of what was loaded only fill its log. Missing weights are an error
# below.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

AttentionInterface.register(BLOCK_SPARSE, block_sparse)
AttentionInterface.register(BY_SEGMENT, by_segment)
log = logging.getLogger(__name__)
Device = Literal["cpu", "cuda"]

HEAD = "score.weight"  # parameter of the scalar head
CONFIG, GENERATION = "config.json", "generation_config.json"


def load_policy(path: str, dtype: str, device: Device) -> PreTrainedModel:
    """Return the causal LM in `path`, without dropout (its log-probs must be those of the rollouts).

    Args:
        path: folder or hub name.
        dtype: of the weights.
        device: where it will compute.
    """
    return _load(AutoModelForCausalLM, path, read_config(path), dtype, device, new=set())


def load_classifier(path: str, dtype: str, device: Device) -> PreTrainedModel:
    """Return the model in `path` with a scalar head, read at the last token; a new head starts at 0 (p = 1/2).

    `pad_token_id` becomes a special token that ends no completion, because Hugging Face's classifiers read the score at
    the last token that is *not* padding; without such a token only single rows can be scored there.
    """
    config = read_config(path)
    fresh = "SequenceClassification" not in "".join(config.architectures or ())
    config.num_labels = 1
    config.pad_token_id = _padding(path, config)
    model = _load(AutoModelForSequenceClassification, path, config, dtype, device, new={HEAD} if fresh else set())
    if fresh:
        _fill_zero(model.get_parameter(HEAD))
    return model


def load_scorer(path: str, dtype: str, device: Device) -> PreTrainedModel:
    """Return the trained meta-RM, or another scalar reward model, in `path`.

    Raises:
        ValueError: the folder holds no classifier, so its head would be a new one; or one that does not read the last token.
    """
    if "SequenceClassification" not in "".join(read_config(path).architectures or ()):
        raise ValueError(f"{path}: is no meta-RM (a model with a scalar head); give checkpoints/meta-rm/version-*/model")
    model = load_classifier(path, dtype, device)
    if not hasattr(model, HEAD.partition(".")[0]):
        raise ValueError(f"{path}: {type(model).__name__} has no head at the last token (it is an encoder); give a decoder")
    return model


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


@contextmanager
def dense_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute attention with transformers' own masks inside it, as generation with a cache needs."""
    loaded = model.config._attn_implementation
    model.set_attn_implementation(_dense_attention(model.config.get_text_config()))
    try:
        yield
    finally:
        model.set_attn_implementation(loaded)


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


def _load(kind: Any, path: str, config: PretrainedConfig, dtype: str, device: Device, *, new: set[str]) -> PreTrainedModel:
    """Load a model of a transformers auto class.

    Raises:
        ValueError: a weight that is not in `new` is not in `path` (it would start at random, silently).
    """
    model, info = kind.from_pretrained(
        path,
        config=config,
        dtype=getattr(torch, dtype),
        attn_implementation=_attention(config.get_text_config(), device),
        output_loading_info=True,
        trust_remote_code=False,  # never the folder's own code, and never a question on a terminal
    )
    missing = sorted(set(info["missing_keys"]) - new)
    if missing or info["mismatched_keys"]:
        wrong = [*missing, *info["mismatched_keys"]][:5]
        raise ValueError(f"{path}: weights are missing or of another shape: {wrong}; is it a whole model folder?")
    return cast(PreTrainedModel, model)


def _attention(config: PretrainedConfig, device: Device) -> str:
    """Return how a model of this configuration computes attention: the only place that chooses it.

    Where the model takes our masks that is `BLOCK_SPARSE` on a GPU, and on a CPU `BY_SEGMENT`, which caps no scores; elsewhere
    `_dense_attention`.
    """
    chosen = _dense_attention(config)
    if supports_shared_prefix(config):
        return BLOCK_SPARSE if device == "cuda" else BY_SEGMENT if chosen == "sdpa" else chosen
    if device == "cpu":
        return chosen
    known = ", ".join(sorted(ARCHITECTURES))
    log.info("%s: attention is %s, with dense masks; flex attention is for %s", config.model_type, chosen, known)
    return chosen


def _dense_attention(config: PretrainedConfig) -> str:
    """Only eager attention applies Gemma-2's cap on scores; the fused one leaves it out silently."""
    return "eager" if getattr(config, "attn_logit_softcapping", None) is not None else "sdpa"


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
