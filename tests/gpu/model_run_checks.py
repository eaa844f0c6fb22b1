"""Ten steps of online RL of a random Qwen3 of half a billion parameters, with a meta-RM, all parts on one card.

It is made on the machine and taught to write judgements with random scores, so that groups differ in their rewards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from launch.setup.model_files import TINY
from tests import random_models
from tests.gpu.figures import Figure, figure
from tests.gpu.meter import seconds
from tests.gpu.parts import Device
from tests.gpu.whole_runs import figures_of_run
from tests.launch.whole_run import SMALL


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is computed."""

    shape: dict[str, Any]
    """Changes of `random_models.SHAPE`."""
    teaching: dict[str, Any]
    """Of `random_models.teach_format`."""
    settings: tuple[str, ...]
    """Of the run."""


SIZES = {
    "cpu": Sizes(shape={}, teaching={}, settings=("grpo.steps=2",)),
    "cuda": Sizes(
        shape={
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 4096,
            "max_position_embeddings": 4096,
            "initializer_range": 0.02,
        },
        teaching={"steps": 150, "lr": 3e-4},
        settings=(
            "grpo.steps=10",
            "grpo.batch_groups=16",
            "grpo.lr=1e-5",
            "meta_rm.lr=1e-5",
            "rollout.kv_cache_mb=2048",
            "learner.gradient_checkpointing=true",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model that can be trained on."""

    device: Device
    """Where the run computes."""
    sizes: Sizes
    """On it."""
    folder: Path
    """For files."""
    model: Path
    """Folder of the model."""
    taught_s: float
    """Seconds of making and teaching it."""


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    sizes, model = SIZES[device], folder / "model"

    def make() -> None:
        random_models.make(model, "qwen3", tokenizer=str(TINY), device=device, **sizes.shape)
        random_models.teach_format(model, device=device, **sizes.teaching)

    taught_s = seconds(make)
    if device == "cuda":
        torch.cuda.empty_cache()  # the run wants the card
    yield Subject(device=device, sizes=sizes, folder=folder, model=model, taught_s=taught_s)


def it_trains_for_its_steps(subject: Subject) -> Iterator[Figure]:
    """Groups without a gradient are trained on as well, so that no step waits for chance."""
    yield figure("the model made and taught", subject.taught_s, "s")
    own = (f"model.path={subject.model}", "model.context=512", "eval.every=0", "grpo.filter=false", *subject.sizes.settings)
    yield from figures_of_run(subject.device, subject.folder, "run", *SMALL, *own)


CHECKS = (it_trains_for_its_steps,)
