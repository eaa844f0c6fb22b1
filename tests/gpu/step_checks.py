"""A training step of 1.1 billion parameters as the presets take it: bfloat16, gradient checkpointing, a reference, two orders.

Tokens and operations a second, memory against the plan, a batch that is not finite, publishing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buffer.messages import ExperienceGroup
from buffer.weights import NONE, PublishedWeights
from launch.setup.memory_plan import GB, Training, policy_rank
from launch.setup.model_shape import shape_of
from launch.setup.time_plan import Rates
from learner.batching import pack_rows
from learner.deepspeed_engine import NotFinite
from learner.host_buffers import HostBuffers
from learner.policy_update import PolicyUpdate
from learner.policy_weights import policy_weights
from learner.prompt_groups import by_prompt
from learner.ranks import Ranks
from tests import random_models
from tests.gpu import flops
from tests.gpu.figures import Figure, figure, not_run
from tests.gpu.meter import PeakMemory, of_a_card, seconds
from tests.gpu.parts import Device
from tests.learner.random_groups import random_group
from tests.learner.run_by_hand import config


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is computed."""

    shape: dict[str, Any]
    """Changes of `random_models.SHAPE`."""
    dtype: str
    """Of weights and activations."""
    prompt: int
    """Tokens of a prompt."""
    completion: int
    """Tokens of a completion."""
    groups: int
    """Of a batch; each has two prompts with two completions."""
    micro_tokens: int
    """Of a micro-batch."""


SIZES = {
    "cpu": Sizes(shape={}, dtype="bfloat16", prompt=20, completion=12, groups=2, micro_tokens=128),
    "cuda": Sizes(
        shape={
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 6144,
            "vocab_size": 151_936,
            "max_position_embeddings": 16_384,
            "initializer_range": 0.02,
        },
        dtype="bfloat16",
        prompt=1_300,
        completion=700,
        groups=8,
        micro_tokens=16_384,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A policy in training."""

    device: Device
    """Where it computes."""
    sizes: Sizes
    """On it."""
    folder: Path
    """Of the model."""
    update: PolicyUpdate
    """What takes the steps."""
    batch: list[ExperienceGroup]
    """What it learns from."""
    start_s: float
    """Seconds until it could train."""

    @property
    def architecture(self) -> dict[str, Any]:
        """The model's config.json."""
        found: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return found


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    sizes, made = SIZES[device], []
    model = random_models.make(folder / "model", "qwen3", dtype=sizes.dtype, device=device, **sizes.shape)
    length = sizes.prompt + sizes.completion
    chosen = config(
        model,
        model={"path": str(model), "dtype": sizes.dtype, "context": length},
        rollout={"samples": 4, "max_new_tokens": sizes.completion},
        grpo={"lr": 1e-5, "beta": 0.01, "batch_groups": sizes.groups},
        learner={"zero_stage": 1, "micro_tokens": sizes.micro_tokens, "gradient_checkpointing": True},
        meta_rm={"micro_tokens": length},
        cluster={"device": device},
    )
    ranks = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device=device, timeout_s=60)
    start_s = seconds(lambda: made.append(PolicyUpdate(chosen, ranks, str(model))))
    batch = [group(number, sizes) for number in range(sizes.groups)]
    yield Subject(device=device, sizes=sizes, folder=model, update=made[0], batch=batch, start_s=start_s)
    made[0].engine.close()
    ranks.leave()


def group(number: int, sizes: Sizes, *, logprob: float = -5.0) -> ExperienceGroup:
    """Returns a group of two prompts, each with two completions."""
    shape: Any = {"prompts": (sizes.prompt, sizes.prompt), "samples": (2, 2), "completion": sizes.completion}
    return random_group(number, **shape, vocabulary=250, logprob=logprob)


def a_step_is_fast_and_fits_the_plan(subject: Subject) -> Iterator[Figure]:
    """The second step and the third: the first compiles. The MFU counts what the algorithm needs, 3 forward passes and one of
    the reference, and nothing that checkpointing computes again."""
    sizes, arch, memory = subject.sizes, subject.architecture, PeakMemory(subject.device)
    yield figure("start, the model loaded twice", subject.start_s, "s")
    taken = [seconds(lambda: subject.update.apply(subject.batch)) for _ in range(3)]
    peak, elapsed = memory.whole(), min(taken[1:])
    rows = pack_rows(by_prompt(subject.batch), sizes.micro_tokens, share=True)
    packed = [(len(row.prompt), [sizes.completion] * len(row.completions)) for row in rows]
    once, tokens = flops.forward(flops.matrices(arch), packed), sum(row.length for row in rows)
    yield figure("the first step", taken[0], "s")
    yield figure("a step", elapsed, "s")
    yield figure("tokens trained on, each with its prompt shared", tokens / elapsed, "tokens/s")
    yield figure("rate, with what is computed again", 5 * once / elapsed / 1e12, "TFLOP/s")
    yield mfu(4 * once / elapsed, torch.cuda.get_device_name() if subject.device == "cuda" else "CPU")
    yield from against_the_plan(subject, peak)


def mfu(rate: float, card: str) -> Figure:
    best = flops.peak(card)
    if best is None:
        return not_run("MFU", f"what {card} does at best is not in tests/gpu/flops.py")
    return figure(f"MFU, of {best / 1e12:.0f} TFLOP/s", rate / best, least=0.45)


def against_the_plan(subject: Subject, peak: float | None) -> Iterator[Figure]:
    """What torch allocates, and what the plan counts of it; then the whole card, which nobody else uses."""
    shape, sizes = shape_of(subject.architecture), subject.sizes
    training = Training(
        ranks=1, zero_stage=1, micro_tokens=sizes.micro_tokens, checkpointing=True, width=2, cuda=subject.device == "cuda"
    )
    plan = policy_rank(shape, training, reference=True)
    yield figure("memory of a rank by the plan", plan.peak / GB, "GB")
    yield of_a_card("memory that torch allocates at most", peak and peak / GB, "GB")
    allocated = plan.peak - plan.runtime
    yield of_a_card("... of what the plan counts of it", peak and peak / allocated, least=0.7, most=1.0)
    used = None
    if subject.device == "cuda":
        free, there = torch.cuda.mem_get_info()
        used = float(there - free)
    yield of_a_card("memory of the card in use, of the plan's", used and used / plan.peak, most=1.1)


def a_batch_that_is_not_finite_is_no_step(subject: Subject) -> Iterator[Figure]:
    bad = [group(number, subject.sizes, logprob=float("nan")) for number in range(2)]
    try:
        subject.update.apply(bad)
        refused = 0
    except NotFinite:
        refused = 1
    yield figure("batches that are not finite, of 1, that are refused", refused, least=1)
    loss, metrics = subject.update.apply(subject.batch)
    yield figure("loss of the step behind it", loss)
    yield figure("its gradient norm", metrics["optim/grad_norm"], least=1e-9)


def weights_are_published(subject: Subject) -> Iterator[Figure]:
    """The learner waits for the copy alone, once the memory of the machine that takes it is locked; beside the next step the
    copy is sealed. Copies to memory that is not locked stand beside it."""
    weights, model = policy_weights(0), subject.update.engine.module.model
    buffers = HostBuffers(pinned=subject.device == "cuda")
    states, sealed = list[dict[str, Tensor]](), list[PublishedWeights]()

    def copy(into: HostBuffers | None) -> float:
        return seconds(lambda: states.append(weights.gather(subject.update.engine, model, into)))

    plain, first, again = copy(None), copy(buffers), copy(buffers)
    probe = subject.update.probe()
    seal = seconds(lambda: sealed.append(weights.to_published(1, states[-1], model, incarnation=0, probe=probe)))
    size = sum(array.nbytes for array in sealed[0].arrays.values())
    verify = seconds(lambda: sealed[0].verify(newer_than=NONE))
    different = sum(not torch.equal(states[0][name], tensor) for name, tensor in states[-1].items())
    yield figure("published", size / GB, "GB")
    yield figure("copy from the device", size / again / GB, "GB/s")
    yield of_a_card("... of what the plan counts with", _on_card(subject, size / again / Rates().copy), least=0.5)
    yield figure("the first copy, which locks the memory", first, "s")
    yield figure("copy from the device to memory that is not locked", size / plain / GB, "GB/s")
    yield figure("weights that the two copies do not agree in", different, most=0)
    yield figure("memory that is kept for it, of what is published", buffers.size / size)
    yield figure("checksum of the learner", size / seal / GB, "GB/s")
    yield figure("checksum of a reader", size / verify / GB, "GB/s")


def _on_card(subject: Subject, value: float) -> float | None:
    return value if subject.device == "cuda" else None


CHECKS = (a_step_is_fast_and_fits_the_plan, a_batch_that_is_not_finite_is_no_step, weights_are_published)
