"""Whether vLLM's attention on a CPU takes the model's heads: else the engine ends half a minute later, with a traceback."""

from collections.abc import Mapping
from typing import Any

from configs.load import ConfigError
from configs.schema import Config

CPU_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)  # of `CPUAttentionBackend` in vLLM


def check_heads(config: Config, arch: Mapping[str, object] | None) -> None:
    """ConfigError when the engine of this device has no kernel for heads of this size. Nothing is said of a model whose
    config.json names none, or whose attention is of another kind (DeepSeek's latent attention).

    Args:
        config: Of the run, the evaluation or the judge.
        arch: The model's config.json, None when that is not known.
    """
    size = head_size(arch or {})
    if config.cluster.device == "cpu" and size and size not in CPU_SIZES:
        sizes = ", ".join(map(str, CPU_SIZES))
        raise ConfigError(
            f"model.path: its attention heads have {size} numbers each, and vLLM on a CPU takes {sizes}: choose another model,"
            " or cluster.device=cuda"
        )


def head_size(arch: Mapping[str, object]) -> int:
    """Returns the numbers of a head; 0 where a config.json does not tell.

    >>> head_size({"hidden_size": 64, "num_attention_heads": 4}), head_size({"head_dim": 128}), head_size({})
    (16, 128, 0)
    """
    text: Any = arch.get("text_config", arch)
    if not isinstance(text, Mapping) or "kv_lora_rank" in text:
        return 0
    names = (("head_dim",), ("hidden_size", "num_attention_heads"), ("n_embd", "n_head"))
    for name, *of in names:
        values = [value for each in (name, *of) if isinstance(value := text.get(each), int) and value > 0]
        if len(values) == 1 + len(of):
            return values[0] // (values[1] if of else 1)
    return 0
