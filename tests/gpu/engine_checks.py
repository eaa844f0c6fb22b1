"""vLLM on the device: what it samples before and after pulls against transformers in float32, versions, salts, the pause, the
head, and the rollout actor beside vLLM alone.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.vllm_engine import VllmEngine
from actors.vllm_weights import as_tensor
from buffer.messages import Completion
from buffer.weights import PublishedWeights
from launch.setup.memory_plan import GB
from tests import random_models
from tests.actors.reference_models import chosen_and_best, noised, off, publish, request, settings
from tests.gpu.figures import Figure, figure
from tests.gpu.meter import of_a_card, seconds
from tests.gpu.parts import Device
from tests.gpu.rollout_checks import it_keeps_the_engine_busy
from tests.gpu.shapes import QWEN3, VOCABULARY

TEMPERATURE = 0.7
ANSWER_S = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is computed."""

    shape: dict[str, Any]
    """Of the model, changes of `random_models.SHAPE`."""
    dtype: str
    """Of the weights."""
    settings: dict[str, Any]
    """Of the engine, changes of those of `reference_models.settings`."""
    prompts: int
    """Prompts at a time."""
    tokens: int
    """Of a completion that a pull meets."""
    mean: float
    """Mean difference of a log-prob, in nats, that rounding explains."""
    agree: float
    """Share of greedy tokens that are the likeliest by transformers."""


SIZES = {
    "cpu": Sizes(shape={}, dtype="float32", settings={}, prompts=4, tokens=190, mean=1e-4, agree=1.0),
    "cuda": Sizes(
        shape=QWEN3 | {"vocab_size": VOCABULARY, "max_position_embeddings": 4096, "initializer_range": 0.06},
        dtype="bfloat16",
        settings={"device": "cuda", "sequences": 256, "kv_cache_bytes": 4 << 30, "context": 1024},
        prompts=16,
        tokens=700,
        mean=0.05,
        agree=0.95,
    ),
}


@dataclass(kw_only=True, slots=True)
class Subject:
    """An engine, and the model that it has."""

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
    model: Any
    """What its weights are now, in float32 on the device."""
    version: int = 0
    """Of them."""

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Long enough for whole blocks of the prefix cache."""
        return [tuple(5 + (7 * i + j) % 240 for j in range(70 + 3 * i)) for i in range(self.sizes.prompts)]

    def other(self, seed: int) -> Any:
        """A model with other weights, rounded to the engine's dtype."""
        return rounded(noised(self.folder, seed, 0.3), self.sizes.dtype).to(self.device)

    def published(self, model: Any) -> PublishedWeights:
        return publish(model, self.version + 1, getattr(torch, self.sizes.dtype))

    def pull(self, model: Any, weights: PublishedWeights | None = None) -> float:
        """Load a model's weights, published before where there is no time to lose. Returns the seconds of the pause."""
        pause = self.engine.load(weights or self.published(model))
        self.model, self.version = model, self.version + 1
        return pause

    def sampled(self, *, temperature: float = TEMPERATURE, tokens: int = 24) -> list[tuple[tuple[int, ...], Completion]]:
        """Completions of all prompts, each with its prompt."""
        samples = 2 if temperature else 1
        asked = [request(p, samples=samples, temperature=temperature, tokens=tokens) for p in self.prompts]
        return answered(self.prompts, self.engine.submit(asked))


def answered(prompts: list[tuple[int, ...]], futures: list[Any]) -> list[tuple[tuple[int, ...], Completion]]:
    pairs = zip(prompts, futures, strict=True)
    return [(prompt, completion) for prompt, future in pairs for completion in future.result(timeout=ANSWER_S)]


def rounded(model: Any, dtype: str) -> Any:
    return model.to(getattr(torch, dtype)).float()


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    sizes = SIZES[device]
    random_models.make(folder / "model", "qwen3", device=device, **sizes.shape)
    made = settings(folder / "model", dtype=sizes.dtype, **sizes.settings)
    started = time.perf_counter()
    engine = VllmEngine(made)
    start_s = time.perf_counter() - started
    model = rounded(noised(folder / "model", 0, 0.0), sizes.dtype).to(device)
    yield Subject(device=device, sizes=sizes, folder=folder / "model", engine=engine, start_s=start_s, model=model)
    engine.close()


def off_by(model: Any, found: list[tuple[tuple[int, ...], Completion]]) -> Tensor:
    """How far each token's log-prob is from what the model computes."""
    return torch.cat([off(model, prompt, completion, TEMPERATURE) for prompt, completion in found])


def the_first_batch_is_right(subject: Subject) -> Iterator[Figure]:
    """Of the engine's life: its thread must be the one that built it."""
    yield figure("start", subject.start_s, "s")
    found = off_by(subject.model, subject.sampled())
    yield figure("first batch: mean difference of log-probs", found.mean(), "nats", most=subject.sizes.mean)
    yield figure("first batch: largest difference", found.max(), "nats", most=1.0)


def after_each_pull_it_samples_the_new_weights(subject: Subject) -> Iterator[Figure]:
    """The prompts are those of before, whose keys and values the prefix cache still has: its salt keeps them out."""
    for number in (1, 2):
        before, after = subject.model, subject.other(seed=number)
        subject.pull(after)
        found = subject.sampled()
        right, wrong = off_by(after, found).mean(), off_by(before, found).mean()
        versions = {version for _, completion in found for version in completion.versions}
        yield figure(f"pull {number}: mean difference of log-probs", right, "nats", most=subject.sizes.mean)
        yield figure(f"pull {number}: from the weights before, of that", wrong / right, least=10)
        yield figure(f"pull {number}: tokens of another version", len(versions - {subject.version}), most=0)


def greedy_tokens_are_the_likeliest(subject: Subject) -> Iterator[Figure]:
    """After a pull, each token by transformers behind those before it. In bfloat16 some are likeliest by less than rounding."""
    subject.pull(subject.other(seed=3))
    found = subject.sampled(temperature=0.0)
    losses = torch.cat([best - chosen for chosen, best in (chosen_and_best(subject.model, p, c) for p, c in found)])
    yield figure("greedy tokens that are transformers' too", (losses == 0).float().mean(), least=subject.sizes.agree)
    yield figure("a greedy token below the likeliest, at most", losses.max(), "nats", most=10 * subject.sizes.mean)


def each_token_has_the_version_that_computed_it(subject: Subject) -> Iterator[Figure]:
    """Pulled while all decode. The first token of the new version is a new one: by the old weights it would be near them."""
    models = [subject.model, subject.other(seed=4), subject.other(seed=5)]
    old_off, first_new = [], []
    for before, after in pairwise(models):
        asked = [request(p, samples=4, temperature=TEMPERATURE, tokens=subject.sizes.tokens) for p in subject.prompts]
        weights, old = subject.published(after), subject.version
        running = subject.engine.submit(asked)
        wait_for_steps(subject.engine, 5)
        subject.pull(after, weights)
        for prompt, completion in answered(subject.prompts, running):
            of_old, far = completion.versions.count(old), off(before, prompt, completion, TEMPERATURE)
            old_off.append(far[:of_old])
            first_new += far[of_old : of_old + 1].tolist() if of_old else []
    yield figure("sequences that a pull met", len(first_new), least=4)
    yield figure(
        "tokens labelled old: mean difference from the old weights", torch.cat(old_off).mean(), "nats", most=subject.sizes.mean
    )
    median = statistics.median(first_new) if first_new else 0.0
    yield figure(
        "first tokens labelled new: median difference from the old weights", median, "nats", least=10 * subject.sizes.mean
    )


def wait_for_steps(engine: VllmEngine, count: int) -> None:
    """Wait until the engine has taken some more steps."""
    least, deadline = engine.steps + count, time.monotonic() + ANSWER_S
    while engine.steps < least:
        assert time.monotonic() < deadline, f"the engine took no {count} steps in {ANSWER_S} s"
        time.sleep(0.001)


def the_pause_is_hardly_more_than_the_copy(subject: Subject) -> Iterator[Figure]:
    """Beside a plain copy of the same arrays to the device."""
    pauses = [subject.pull(subject.model) for _ in range(4)][1:]
    weights = subject.published(subject.model)
    size = sum(array.nbytes for array in weights.arrays.values())

    def copy() -> None:
        for name, array in weights.arrays.items():
            as_tensor(array, weights.dtypes[name]).to(subject.device, copy=True)

    copies = [seconds(copy) for _ in range(3)]
    pause, copied = statistics.median(pauses), statistics.median(copies)
    yield figure("weights", size / GB, "GB")
    yield figure("pause", 1e3 * pause, "ms")
    yield figure("copy", 1e3 * copied, "ms")
    yield of_a_card("pause, of the copy", pause / copied if subject.device == "cuda" else None, most=2.0)


def logits_are_float32(subject: Subject) -> Iterator[Figure]:
    """Asked of the engine's own model, in its thread. Logits of bfloat16 would be off by 1/16 at 16."""
    head = subject.model.get_output_embeddings().weight.to(getattr(torch, subject.sizes.dtype))
    hidden = 8 * torch.randn(50, head.shape[1], generator=torch.Generator().manual_seed(0))
    hidden = hidden.to(subject.device, head.dtype)
    engine = subject.engine
    with torch.no_grad():
        logits = engine._call(lambda: engine._model._model.compute_logits(hidden)).result(ANSWER_S)
        exact = hidden.double() @ head.double().t()
    error = (logits[:, : exact.shape[1]].double() - exact).abs().max() / exact.abs().max()
    yield figure("bits of a logit", 8 * logits.element_size(), least=32)
    yield figure("logits: largest error, of the largest logit", error, most=1e-4)


CHECKS = (
    the_first_batch_is_right,
    after_each_pull_it_samples_the_new_weights,
    greedy_tokens_are_the_likeliest,
    each_token_has_the_version_that_computed_it,
    the_pause_is_hardly_more_than_the_copy,
    logits_are_float32,
    it_keeps_the_engine_busy,
)
