"""The model that several parts of the check have on a card: 0.3 billion parameters with the vocabulary of Qwen3."""

from typing import Any

QWEN3: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 3072,
}
VOCABULARY = 151_936
