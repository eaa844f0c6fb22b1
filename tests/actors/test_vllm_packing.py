"""Packed weights compute what plain ones do, and follow a change once they are told of it. In engines: test_vllm_engine.py."""

import pytest
import torch

from actors.vllm_packing import PackedProduct, forget_packed

pytestmark = pytest.mark.slow  # imports vLLM


class Layer(torch.nn.Module):
    """Computes as vLLM's linear layers do on CPU."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight, self.cpu_linear = weight, PackedProduct()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.cpu_linear(x, self.weight, None)
        return product


def weights(dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    torch.manual_seed(0)
    return torch.nn.Parameter(torch.randn(96, 64, dtype=dtype), requires_grad=False)


@pytest.mark.parametrize("shape", [(1, 64), (7, 64), (2, 3, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_product(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight, x, bias = weights(dtype), torch.randn(shape, dtype=dtype), torch.randn(96, dtype=dtype)
    product = PackedProduct()
    for own in (None, bias):
        torch.testing.assert_close(product(x, weight, own), torch.nn.functional.linear(x, weight, own), atol=1e-4, rtol=1e-4)


def test_a_weight_that_two_layers_share_is_packed_again_in_both() -> None:
    """What is packed must not follow the weight by itself, or this test would show nothing."""
    weight = weights()
    layers = torch.nn.ModuleList([Layer(weight), torch.nn.Sequential(Layer(weight))])
    x = torch.randn(4, 64)
    before = [layer(x) for layer in layers]
    weight.data.mul_(2)
    for layer, product in zip(layers, before, strict=True):
        torch.testing.assert_close(layer(x), product)
    forget_packed(layers)
    for layer, product in zip(layers, before, strict=True):
        torch.testing.assert_close(layer(x), 2 * product, atol=1e-4, rtol=1e-4)
