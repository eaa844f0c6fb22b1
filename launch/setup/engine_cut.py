"""Over how many processes an engine can cut a model: numbers that its attention heads divide into."""

from collections.abc import Mapping

from configs.load import ConfigError
from configs.schema import Config

HEADS = ("num_attention_heads", "num_key_value_heads")


def check_tensor_parallel(config: Config, arch: Mapping[str, object] | None) -> None:
    """ConfigError when the heads of queries, or those of keys and values, cannot be shared evenly among as many processes.

    (vLLM copies heads of keys and values that are fewer than the processes; their cache would not be divided then.)

    Args:
        config: The run's.
        arch: The model's config.json, None when that is not known.
    """
    processes = config.rollout.tensor_parallel
    text = (arch or {}).get("text_config")
    fields = {**(arch or {}), **text} if isinstance(text, Mapping) else arch or {}
    for name in HEADS:
        heads = fields.get(name)
        if isinstance(heads, int) and heads % processes:
            able = ", ".join(str(number) for number in range(1, heads + 1) if _divides_all(number, fields))
            raise ConfigError(
                f"rollout.tensor_parallel = {processes} does not divide the model's {name} = {heads}: this model can be cut"
                f" over {able} processes"
            )


def _divides_all(number: int, fields: Mapping[str, object]) -> bool:
    return all(heads % number == 0 for name in HEADS if isinstance(heads := fields.get(name), int))
