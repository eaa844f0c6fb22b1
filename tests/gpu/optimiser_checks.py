"""The optimiser of a lone rank: gradients summed in float32, fused AdamW, its states in the CPU's memory, a checkpoint."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch

from launch.setup.memory_plan import GB
from learner.deepspeed_engine import Engine
from learner.policy_update import PolicyUpdate
from learner.ranks import Ranks
from tests import random_models
from tests.gpu.figures import Figure, figure
from tests.gpu.meter import PeakMemory, of_a_card, seconds
from tests.gpu.parts import Device
from tests.gpu.shapes import QWEN3, VOCABULARY
from tests.learner.run_by_hand import config, experience
from tests.learner.test_deepspeed_engine import Sums, settings

# Of the model whose optimiser is offloaded: 0.3 billion parameters on a card.
SHAPES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "cuda": QWEN3 | {"vocab_size": VOCABULARY, "initializer_range": 0.05},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model, and the rank that trains it."""

    device: Device
    """Where it computes."""
    model: Path
    """Folder of the model."""
    ranks: Ranks
    """A rank that is alone."""


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    model = random_models.make(folder, "qwen3", dtype="bfloat16", device=device, **SHAPES[device])
    ranks = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device=device, timeout_s=60)
    yield Subject(device=device, model=model, ranks=ranks)
    ranks.leave()


def gradients_are_summed_in_float32(subject: Subject) -> Iterator[Figure]:
    """1 and seven times 2^-9, of each of three parameters: in bfloat16 the sum would stay 1."""
    for stage in (1, 2, 3):
        for offload in (False, True):
            chosen = settings(zero_stage=stage, dtype="bfloat16", optimizer_offload=offload, device=subject.device)
            sums = Engine(lambda: Sums(2, 1).bfloat16(), chosen, subject.ranks)
            for number, factor in enumerate([1.0] + 7 * [2.0**-9] + [0.0]):
                sums.backward(sums(*torch.tensor((factor, 0.0), device=subject.ranks.device)), last=number == 8)
            norm = sums.step().grad_norm
            sums.close()
            how = f"ZeRO {stage}{', offloaded' * offload}: norm of a gradient in 8 micro-batches, of its true one"
            yield figure(how, norm / (sqrt(3) * (1 + 7 / 512)), least=1 - 1e-4, most=1 + 1e-4)


def update_of(subject: Subject, *, offload: bool) -> PolicyUpdate:
    chosen = config(
        subject.model,
        model={"path": str(subject.model), "dtype": "bfloat16"},
        grpo={"lr": 1e-3, "warmup_steps": 0},
        learner={"zero_stage": 2, "optimizer_offload": offload},
        meta_rm={"zero_stage": 2},
        cluster={"device": subject.device},
    )
    return PolicyUpdate(chosen, subject.ranks, str(subject.model))


def offloaded_states_make_the_same_steps_in_less_memory(subject: Subject) -> Iterator[Figure]:
    """16 bytes a parameter leave the card, of 18: two weights in bfloat16 stay, the policy's and the reference's."""
    found, held = [], []
    for offload in (False, True):
        memory = PeakMemory(subject.device)
        update = update_of(subject, offload=offload)
        optimiser: Any = update.engine._engine.basic_optimizer
        fused = bool(optimiser.param_groups[0]["fused"])
        yield figure(f"AdamW is fused{', offloaded' * offload}", fused, least=1.0, most=1.0)
        steps = [update.apply([experience(2 * step + number, 0) for number in range(2)]) for step in range(3)]
        found.append([(loss, metrics["optim/grad_norm"]) for loss, metrics in steps])
        held.append(memory.added())
        again = [experience(number, 0) for number in range(2)]
        yield figure(f"a step{', offloaded' * offload}", seconds(lambda update=update, again=again: update.apply(again)), "s")
        count = sum(parameter.numel() for parameter in update.engine.module.parameters())
        update.engine.close()
        del update, optimiser
    off = [max(abs(a[i] - b[i]) / max(abs(a[i]), 1e-3) for a, b in zip(*found, strict=True)) for i in (0, 1)]
    yield figure("losses of three steps, offloaded: relative difference", off[0], most=0.05)
    yield figure("gradient norms of three steps, offloaded: relative difference", off[1], most=0.05)
    on_card, offloaded = held
    saved = None if on_card is None or offloaded is None else (on_card - offloaded) / count
    yield of_a_card("memory that leaves the card, a parameter", saved, "B", least=12)


def a_checkpoint_holds_the_optimiser(subject: Subject) -> Iterator[Figure]:
    """Saved, stepped on, loaded, stepped on: the same step."""
    folder, update = subject.model / "saved", update_of(subject, offload=False)
    first, second = ([experience(2 * step + number, 0) for number in range(2)] for step in range(2))
    update.apply(first)
    save = seconds(lambda: update.engine.save(folder))
    before, _ = update.apply(second)
    load = seconds(lambda: update.engine.load(folder))
    behind, _ = update.apply(second)
    update.engine.close()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shutil.rmtree(folder)
    yield figure("checkpoint of the engine", size / GB, "GB")
    yield figure("written", size / save / GB, "GB/s")
    yield figure("read", size / load / GB, "GB/s")
    yield figure("loss of a step from the checkpoint, off the step that it repeats", abs(behind - before), most=1e-3)


CHECKS = (
    gradients_are_summed_in_float32,
    offloaded_states_make_the_same_steps_in_less_memory,
    a_checkpoint_holds_the_optimiser,
)
