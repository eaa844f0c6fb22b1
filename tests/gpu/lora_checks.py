"""LoRA adapters in a running vLLM engine: what it samples before and after pulls, against transformers in float32."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from actors.vllm_engine import VllmEngine
from learner.adapters import planned_shape
from learner.models import load_policy
from tests import random_models
from tests.actors.reference_models import PROMPTS, off, request, settings
from tests.actors.test_vllm_adapters import published, trained
from tests.gpu import engine_checks
from tests.gpu.engine_checks import ANSWER_S, TEMPERATURE, Sizes, wait_for_steps
from tests.gpu.figures import Figure, figure
from tests.gpu.parts import Device

RANKS = {"cpu": 3, "cuda": 32}
SIZES: dict[str, Sizes] = {
    "cpu": engine_checks.SIZES["cpu"],
    # With a vocabulary of hundreds, as nothing of adapters depends on it, and transformers computes on the CPU as well.
    "cuda": replace(engine_checks.SIZES["cuda"], shape=engine_checks.SIZES["cuda"].shape | {"vocab_size": 512}),
}


@dataclass(kw_only=True, slots=True)
class Subject:
    """An engine that takes adapters."""

    device: Device
    """Where it computes."""
    sizes: Sizes
    """On it."""
    folder: Path
    """Of the model."""
    engine: VllmEngine
    """Built of it."""
    start_s: float
    """Seconds that took."""

    def adapted(self, seed: int) -> Any:
        """The model with adapters as they are after some steps, in float32 on the CPU."""
        return trained(self.folder, seed=seed, rank=RANKS[self.device])

    def off_by(self, model: Any) -> torch.Tensor:
        """How far the log-probs of new samples are from what a model computes."""
        model, found = model.to(self.device), []
        futures = self.engine.submit([request(prompt, temperature=TEMPERATURE) for prompt in PROMPTS])
        for prompt, future in zip(PROMPTS, futures, strict=True):
            found += [off(model, prompt, completion, TEMPERATURE) for completion in future.result(ANSWER_S)]
        return torch.cat(found)


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    sizes = SIZES[device]
    random_models.make(folder, "qwen3", dtype=sizes.dtype, **sizes.shape)
    shape = planned_shape(str(folder), RANKS[device])
    started = time.perf_counter()
    engine = VllmEngine(settings(folder, dtype=sizes.dtype, adapters=shape, **sizes.settings))
    start_s = time.perf_counter() - started
    yield Subject(device=device, sizes=sizes, folder=folder, engine=engine, start_s=start_s)
    engine.close()


def without_a_pull_it_is_the_model_itself(subject: Subject) -> Iterator[Figure]:
    yield figure("start", subject.start_s, "s")
    plain = load_policy(str(subject.folder), "float32", "cpu").eval()
    found = subject.off_by(plain)
    yield figure("before the first pull: mean difference of log-probs", found.mean(), "nats", most=subject.sizes.mean)


def after_each_pull_it_samples_with_the_new_adapters(subject: Subject) -> Iterator[Figure]:
    before = load_policy(str(subject.folder), "float32", "cpu").eval()
    for number in (1, 2):
        model = subject.adapted(seed=number)
        weights = published(model, number)
        pause = subject.engine.load(weights)
        right, wrong = subject.off_by(model).mean(), subject.off_by(before).mean()
        size = sum(array.nbytes for array in weights.arrays.values())
        yield figure(f"pull {number}: adapters of rank {RANKS[subject.device]}", size / 1e6, "MB")
        yield figure(f"pull {number}: pause", 1e3 * pause, "ms")
        yield figure(f"pull {number}: mean difference of log-probs", right, "nats", most=subject.sizes.mean)
        yield figure(f"pull {number}: from the model before, of that", wrong / right, least=5)
        before = model


def what_runs_decodes_on_under_the_new_version(subject: Subject) -> Iterator[Figure]:
    tokens, old = subject.sizes.tokens, subject.engine.edition.version
    weights = published(subject.adapted(seed=3), old + 1)
    running = subject.engine.submit([request(prompt, samples=4, tokens=tokens) for prompt in PROMPTS])
    wait_for_steps(subject.engine, 5)
    subject.engine.load(weights)
    found = [completion.versions for future in running for completion in future.result(ANSWER_S)]
    yield figure("sequences that the pull met", sum(set(each) == {old, old + 1} for each in found), least=4)
    yield figure("sequences whose versions go back", sum(each != tuple(sorted(each)) for each in found), most=0)


CHECKS = (
    without_a_pull_it_is_the_model_itself,
    after_each_pull_it_samples_with_the_new_adapters,
    what_runs_decodes_on_under_the_new_version,
)
