"""The learner on the device: in float32 against plain torch on a CPU, step by step; in bfloat16 against float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.schema import Config
from learner.logprobs import TokenLogProbs
from learner.models import load_policy
from learner.policy_update import PolicyUpdate
from learner.ranks import Ranks
from tests import random_models
from tests.gpu.figures import Figure, figure
from tests.gpu.parts import Device
from tests.gpu.shapes import QWEN3
from tests.learner.attention_by_hand import packed
from tests.learner.run_by_hand import config, experience
from tests.learner.test_deepspeed_engine import Plain

STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is computed."""

    shape: dict[str, Any]
    """Of the model in bfloat16, changes of `random_models.SHAPE`."""
    lengths: list[tuple[int, tuple[int, ...]]]
    """Tokens of each prompt and of its completions."""


SIZES = {
    "cpu": Sizes(shape={}, lengths=[(60, (20, 9)), (9, (5,))]),
    "cuda": Sizes(
        shape=QWEN3 | {"num_hidden_layers": 8, "initializer_range": 0.05},
        lengths=[(700, (310, 190, 256)), (130, (40, 90)), (9, (5,))],
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Models, and the rank that trains them."""

    device: Device
    """Where it computes."""
    sizes: Sizes
    """On it."""
    small: Path
    """A model that plain torch trains on a CPU as well."""
    wide: Path
    """A model for the device."""
    ranks: Ranks
    """A rank that is alone."""


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    sizes = SIZES[device]
    small, wide = random_models.make(folder / "small", "llama"), random_models.make(folder / "wide", "qwen3", **sizes.shape)
    ranks = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device=device, timeout_s=60)
    yield Subject(device=device, sizes=sizes, small=small, wide=wide, ranks=ranks)
    ranks.leave()


def trained_as(subject: Subject, dtype: str, **learner: Any) -> Config:
    return config(
        subject.small,
        model={"path": str(subject.small), "dtype": dtype},
        grpo={"lr": 1e-3, "warmup_steps": 4, "weight_decay": 0.1, "grad_clip": 0.5},
        learner={"zero_stage": 1, "micro_tokens": 64} | learner,
        cluster={"device": subject.device},
    )


def float32_steps_are_those_of_plain_torch(subject: Subject) -> Iterator[Figure]:
    """GRPO written plainly, on a CPU: losses, gradient norms, and the weights behind the steps."""
    for checkpointing in (False, True):
        chosen = trained_as(subject, "float32", gradient_checkpointing=checkpointing)
        update, plain = PolicyUpdate(chosen, subject.ranks, str(subject.small)), Plain(chosen)
        losses, norms = [], []
        for step in range(STEPS):
            groups = [experience(10 * step + number, step) for number in range(3)]
            loss, metrics = update.apply(groups)
            expected_loss, expected_norm = plain.step(groups, 1e-3 * (step + 1) / 4)
            losses.append(abs(loss - expected_loss))
            norms.append(abs(metrics["optim/grad_norm"] / expected_norm - 1))
        state = update.engine.full_state(update.engine.module.model)
        update.engine.close()
        trained = {name: own for name, own in plain.policy.state_dict().items() if name in state}
        moved = [float((state[name] - own).norm() / own.norm()) for name, own in trained.items()]
        how = f"{STEPS} steps, float32{', checkpointing' * checkpointing}"
        yield figure(f"{how}: loss, largest difference", max(losses), most=1e-4)
        yield figure(f"{how}: gradient norm, relative difference", max(norms), most=1e-4)
        yield figure(f"{how}: weights, relative difference", max(moved), most=1e-4)


def bfloat16_steps_are_near(subject: Subject) -> Iterator[Figure]:
    found = []
    for dtype in ("float32", "bfloat16"):
        update = PolicyUpdate(trained_as(subject, dtype), subject.ranks, str(subject.small))
        loss, metrics = update.apply([experience(number, 0) for number in range(3)])
        found.append((loss, metrics["optim/grad_norm"]))
        update.engine.close()
    (loss, norm), (near_loss, near_norm) = found
    yield figure("a step in bfloat16: loss, difference from float32", abs(near_loss - loss), most=0.02)
    yield figure("a step in bfloat16: gradient norm, relative difference", abs(near_norm / norm - 1), most=0.1)


def bfloat16_log_probs_and_gradients_are_near(subject: Subject) -> Iterator[Figure]:
    """Of a wider model. The direction of a parameter's gradient is that of float32 but for a few degrees."""
    truth, found = (computed(subject, dtype) for dtype in ("float32", "bfloat16"))
    yield figure("log-probs in bfloat16, mean difference", (found[0] - truth[0]).abs().mean(), "nats", most=0.05)
    together = [torch.cat([gradient.flatten() for gradient in gradients.values()]) for _, gradients in (truth, found)]
    yield figure("all gradients in bfloat16: cosine", cosine(*together), least=0.99)
    worst = min(cosine(truth[1][name], gradient) for name, gradient in found[1].items())
    yield figure("the gradient that is furthest: cosine", worst, least=0.9)
    yield figure(
        "all gradients in bfloat16: norm beside float32's", together[1].norm() / together[0].norm(), least=0.9, most=1.1
    )


def computed(subject: Subject, dtype: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns log-probs, and the gradients of their mean, in float32."""
    model: Any = load_policy(str(subject.wide), dtype, subject.device)
    model = model.to(subject.device)
    logprobs, _ = TokenLogProbs(model, temperature=1.0)(packed(subject.sizes.lengths, share=True).to(subject.device))
    logprobs.mean().backward()
    return logprobs.detach(), {name: parameter.grad.float() for name, parameter in model.named_parameters()}


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


CHECKS = (float32_steps_are_those_of_plain_torch, bfloat16_steps_are_near, bfloat16_log_probs_and_gradients_are_near)
