"""Products with weights that oneDNN has laid out for its kernels, and that may change, on CPU.

vLLM packs each weight once, when it is loaded, and drops it: weights that are published later would be without effect. Here the
weights stay, and each is packed at its first use after a change. So the model is in memory twice. A weight that is never
multiplied with (of an embedding) is never packed; one that embedding and head share is packed by the one that multiplies.
"""

from typing import Any

CACHED = 32  # kernels that oneDNN keeps for a weight, by number of rows: as vLLM


class PackedProduct:
    """`x · weightᵀ + bias` of one layer: what vLLM calls for it on CPU."""

    def __init__(self) -> None:
        self._packed: Any = None

    def forget(self) -> None:
        """The weight has changed."""
        self._packed = None

    def __call__(self, x: Any, weight: Any, bias: Any) -> Any:
        """Return the product.

        Args:
            x: [..., inputs].
            weight: [outputs, inputs], the same until `forget` is called.
            bias: [outputs], or None.
        """
        import torch
        from vllm import _custom_ops

        if weight.dtype != torch.float32 or not _custom_ops._supports_onednn:
            return torch.nn.functional.linear(x, weight, bias)
        if self._packed is None:
            self._packed = _custom_ops.create_onednn_mm(weight.t(), CACHED)
        return _custom_ops.onednn_mm(self._packed, x, bias)


def forget_packed(model: Any) -> None:
    """Let each layer of a model pack its weight again: those that share the weight of another are not told of a change."""
    for layer in model.modules():
        product = getattr(layer, "cpu_linear", None)
        if isinstance(product, PackedProduct):
            product.forget()
