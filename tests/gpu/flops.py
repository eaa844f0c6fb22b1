"""Floating-point operations of a training step, and what cards do at best: pure functions, the standard library alone.

For a row of p prompt tokens and completions of c_1, ..., c_n tokens, of a model with M numbers in the matrices of its layers, a
vocabulary V, width h, L layers and H heads of size d:

    pairs     p (p + 1) / 2 + sum_i (c_i p + c_i (c_i + 1) / 2)       that attention computes
    forward   2 M (p + sum c_i)  +  2 V h sum c_i  +  4 L H d pairs   layers, head (where a token is predicted), attention
    training  3 x forward, and once more forward for a reference      what the algorithm needs: the MFU counts this
    with gradient checkpointing once more forward                     what the card does
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Dense bfloat16, 10^12 a second: NVIDIA's data sheets, without sparsity. The longest name that a card's name holds counts.
PEAKS: Mapping[str, float] = {
    "A10": 125,
    "A100": 312,
    "A30": 165,
    "A40": 150,
    "A6000": 155,
    "B200": 2250,
    "GH200": 989,
    "H100": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H200": 989,
    "L4": 121,
    "L40": 181,
    "L40S": 362,
    "RTX 3090": 71,
    "RTX 4090": 165,
    "RTX 5090": 210,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrices:
    """What the operations of a token depend on."""

    layers: float
    """M, numbers in the matrices of all layers."""
    head: float
    """V h."""
    attention: float
    """L H d."""


def matrices(config: Mapping[str, Any]) -> Matrices:
    """Returns those of a model with this config.json (Llama, Qwen3)."""
    hidden, wide, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    layer = hidden * (2 * queries + 2 * keys) + 3 * hidden * wide
    return Matrices(layers=layers * layer, head=config["vocab_size"] * hidden, attention=layers * queries)


def forward(model: Matrices, rows: Iterable[tuple[int, Iterable[int]]]) -> float:
    """Returns the operations of a forward pass.

    Args:
        model: The model.
        rows: The tokens of each row's prompt, and of its completions.
    """
    total = 0.0
    for prompt, completions in rows:
        lengths = list(completions)
        pairs = prompt * (prompt + 1) / 2 + sum(c * prompt + c * (c + 1) / 2 for c in lengths)
        total += 2 * model.layers * (prompt + sum(lengths)) + 2 * model.head * sum(lengths) + 4 * model.attention * pairs
    return total


def peak(card: str) -> float | None:
    """Returns the operations a second of a card by its name, such as `NVIDIA H100 80GB HBM3`; None where it is not known."""
    words = f" {card} "
    known = [name for name in PEAKS if f" {name} " in words or f" {name}-" in words]
    return PEAKS[max(known, key=len)] * 1e12 if known else None
