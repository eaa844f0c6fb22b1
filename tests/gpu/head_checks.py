"""The head as one function in bfloat16: against float64, and what it holds. It needs torch alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from learner.head_logprobs import head_logprobs
from learner.logprobs import CHUNK_LOGITS
from tests.gpu.figures import Figure, figure
from tests.gpu.meter import PeakMemory, of_a_card, seconds
from tests.gpu.parts import Device


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is computed."""

    tokens: int
    """Compared with float64."""
    many: int
    """Whose time and memory are measured."""
    hidden: int
    """Width of the hidden states."""
    vocabulary: int
    """Rows of the head."""


SIZES = {
    "cpu": Sizes(tokens=64, many=64, hidden=256, vocabulary=2_000),
    "cuda": Sizes(tokens=512, many=8_192, hidden=2_048, vocabulary=151_936),
}
CAP = 30.0  # Gemma-2's


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A head with inputs, in bfloat16."""

    sizes: Sizes
    """Of it."""
    hidden: Tensor
    """[many, hidden]."""
    weight: Tensor
    """[vocabulary, hidden]: logits up to some 20, as trained models have."""
    targets: Tensor
    """[many]."""
    factors: Tensor
    """[many], dL/dlogprob."""

    @property
    def device(self) -> str:
        return self.weight.device.type


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    del folder
    sizes, rng = SIZES[device], torch.Generator(device).manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, device=device)

    yield Subject(
        sizes=sizes,
        hidden=drawn(sizes.many, sizes.hidden).bfloat16(),
        weight=(drawn(sizes.vocabulary, sizes.hidden) * (6.4 / sizes.hidden**0.5)).bfloat16(),
        targets=torch.randint(sizes.vocabulary, (sizes.many,), generator=rng, device=device),
        factors=drawn(sizes.many),
    )


def apply(subject: Subject, tokens: int, formula: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Returns log-probs of the first tokens, and the gradients of hidden states and weight."""
    hidden = subject.hidden[:tokens].to(dtype, copy=True).requires_grad_()
    weight = subject.weight.to(dtype, copy=True).requires_grad_()
    logprobs = formula(hidden, weight, subject.targets[:tokens])
    (logprobs * subject.factors[:tokens]).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return logprobs.detach(), hidden.grad, weight.grad


def exact(cap: float | None) -> Callable[..., Tensor]:
    """The formula with autograd and whole logits."""

    def formula(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        logits = hidden @ weight.t()
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        return torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]

    return formula


def ours(cap: float | None, chunk: int) -> Callable[..., Tensor]:
    def formula(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        return head_logprobs(hidden, weight, None, targets, temperature=1.0, cap=cap, chunk=chunk)[0]

    return formula


def off(found: Tensor, truth: Tensor) -> float:
    """The norm of the difference, relative to the truth's."""
    return float((found.double() - truth).norm() / truth.norm())


def it_is_as_exact_as_bfloat16_allows(subject: Subject) -> Iterator[Figure]:
    """Rounding a gradient once leaves 0.23 % of its norm; logits in bfloat16 would leave 2e-2 nats and 1 %."""
    for cap, name in ((None, ""), (CAP, ", capped")):
        truth, *true_gradients = apply(subject, subject.sizes.tokens, exact(cap), torch.float64)
        found, *gradients = apply(subject, subject.sizes.tokens, ours(cap, subject.sizes.tokens // 3), torch.bfloat16)
        yield figure(f"log-probs{name}, mean error", (found - truth).abs().mean(), "nats", most=1e-4)
        for what, gradient, true in zip(("hidden states", "weight"), gradients, true_gradients, strict=True):
            yield figure(f"gradient of the {what}{name}, relative error", off(gradient, true), most=5e-3)


def its_memory_is_what_the_plan_counts(subject: Subject) -> Iterator[Figure]:
    """3 x 4 bytes of a chunk's logits, dW in float32, and dW as it is returned."""
    sizes, chunk = subject.sizes, max(1, CHUNK_LOGITS[subject.device] // subject.sizes.vocabulary)

    def both_ways() -> None:
        hidden, weight = (tensor.detach().requires_grad_() for tensor in (subject.hidden, subject.weight))
        logprobs = ours(None, chunk)(hidden, weight, subject.targets)
        (logprobs * subject.factors).sum().backward()

    both_ways()  # the first chooses kernels, and takes their workspaces
    memory = PeakMemory(subject.device)
    elapsed = seconds(both_ways)
    planned = 12 * min(chunk, sizes.many) * sizes.vocabulary + (4 + 2) * subject.weight.numel()
    added = memory.added()
    yield of_a_card("memory over what was there, of the plan's", added and added / planned, most=1.15)
    flop = 8 * sizes.many * subject.weight.numel()  # logits twice, dh, dW
    yield figure("forward and backward", 1e3 * elapsed, "ms")
    yield figure("rate, with logits made twice", flop / elapsed / 1e12, "TFLOP/s")


CHECKS = (it_is_as_exact_as_bfloat16_allows, its_memory_is_what_the_plan_counts)
