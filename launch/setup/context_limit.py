"""How many tokens a model can read, from its config.json, and that `model.context` is not more."""

from collections.abc import Mapping

from configs.load import ConfigError
from configs.schema import Config

# Where a config.json says how many tokens the model can read: most models, GPT-2, MPT, ChatGLM, and others.
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length")


def check_context(config: Config, arch: Mapping[str, object] | None) -> None:
    """ConfigError when the model cannot read so many tokens. `arch` is its config.json, None when that is not known."""
    limit = context_limit(arch or {})
    if limit is not None and config.model.context > limit:
        over = f"model.context = {config.model.context} is over the model's own limit of {limit} tokens"
        raise ConfigError(f"{over}; set model.context={limit} or less")


def context_limit(arch: Mapping[str, object]) -> int | None:
    """Returns how many tokens a model reads at most, from its config.json; None when that does not say.

    A model that also reads images keeps it in `text_config`. Of several names the smallest counts, as in vLLM.
    """
    text = arch.get("text_config")
    fields = {**arch, **text} if isinstance(text, Mapping) else arch
    limits = [value for name in CONTEXT_NAMES if isinstance(value := fields.get(name), int)]
    rope = fields.get("rope_scaling") or fields.get("rope_parameters")
    scaling = rope if isinstance(rope, Mapping) else {}
    # The others are in the limit already, and so is Gemma-3's.
    stretched = scaling.get("rope_type", scaling.get("type")) in ("linear", "dynamic") and "gemma3" not in str(arch)
    factor = scaling.get("factor") if stretched else 1
    return int(min(limits) * factor) if limits and isinstance(factor, int | float) else min(limits, default=None)
