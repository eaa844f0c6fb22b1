"""Adapters in a running vLLM engine: what it samples from after a pull is the model with the published adapters."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.vllm_engine import VllmEngine, VllmSettings
from actors.vllm_weights import ModelUnsupported
from buffer.weights import PublishedWeights, WeightsRefused
from learner.adapters import adapted, merged, planned_shape
from learner.models import load_policy
from learner.weight_export import to_published_adapters
from tests.actors.reference_models import PROMPTS, TOLERANCE, probe, publish, request, settings, worst
from tests.random_models import make

pytestmark = pytest.mark.slow

RANK = 3  # vLLM has room for 8
KINDS = ("llama", "qwen2", "qwen3", "gemma2")  # those whose completions share a prompt in the learner
Engines = dict[str, tuple[Path, VllmEngine]]


def with_adapters(folder: Path) -> VllmSettings:
    return dataclasses.replace(settings(folder), adapters=planned_shape(str(folder), RANK))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """One engine for each architecture; all stay alive, as vLLM's process group goes with the first one."""
    folders = {kind: make(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}
    return {kind: (folder, VllmEngine(with_adapters(folder))) for kind, folder in folders.items()}


def trained(folder: Path, seed: int, rank: int = RANK) -> Any:
    """A model with adapters as they are after some steps."""
    model = adapted(load_policy(str(folder), "float32", "cpu"), rank=rank, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def published(model: Any, version: int) -> PublishedWeights:
    return to_published_adapters(version, state_of(model), model, probe=probe(model))


@pytest.mark.parametrize("kind", KINDS)
def test_after_each_pull_it_samples_from_the_published_adapters(kind: str, engines: Engines) -> None:
    folder, engine = engines[kind]
    before, first = load_policy(str(folder), "float32", "cpu").eval(), engine.edition.version
    for prompt, future in zip(PROMPTS, engine.submit([request(p) for p in PROMPTS]), strict=True):
        for completion in future.result(timeout=120):
            assert first > 0 or worst(before, prompt, completion) < TOLERANCE, "without a pull it is the model itself"
    for step in (1, 2):
        model = trained(folder, seed=step)
        engine.load(published(model, first + step))
        whole = load_policy(str(folder), "float32", "cpu").eval()
        whole.load_state_dict(merged(state_of(model), model), strict=False)
        answers = [future.result(timeout=120) for future in engine.submit([request(p) for p in PROMPTS])]
        for prompt, completions in zip(PROMPTS, answers, strict=True):
            for completion in completions:
                assert worst(model, prompt, completion) < TOLERANCE
                assert worst(whole, prompt, completion) < TOLERANCE, "and as the whole model that it is merged into"
                assert worst(before, prompt, completion) > 100 * TOLERANCE  # so the check can fail
                assert set(completion.versions) == {first + step}


def test_a_pull_in_flight_keeps_the_sequences_and_tags_each_token(engines: Engines) -> None:
    folder, engine = engines["llama"]
    old, model = engine.edition.version, trained(folder, seed=3)
    running = engine.submit([request(p, samples=4, tokens=190) for p in PROMPTS])
    engine.load(published(model, old + 1))
    late = engine.submit([request(PROMPTS[0])])[0].result(timeout=120)
    spans = [c.versions for future in running for c in future.result(timeout=120) if c.finish == "length"]
    assert all(versions == tuple(sorted(versions)) for versions in spans)
    assert any(set(versions) == {old, old + 1} for versions in spans)
    # the same prompt again: its prefix is computed anew, not read from the cache of the older adapters
    assert all(worst(model, PROMPTS[0], completion) < TOLERANCE for completion in late)


def test_what_began_before_the_first_pull_decodes_on_with_the_pulled_adapters(tmp_path: Path) -> None:
    """The last log-prob before the first token of the new version and those after it differ by what the adapters changed."""
    folder = make(tmp_path / "m", "llama")
    engine, model = VllmEngine(with_adapters(folder)), trained(folder, seed=4)
    plain = load_policy(str(folder), "float32", "cpu").eval()
    running = engine.submit([request(PROMPTS[0], samples=8, tokens=190)])
    engine.load(published(model, 1))
    mixed = [c for c in running[0].result(timeout=120) if set(c.versions) == {0, 1}]
    assert mixed
    for completion in mixed:
        own = dataclasses.replace(completion, logprobs=completion.logprobs)
        assert worst(plain, PROMPTS[0], own) > 100 * TOLERANCE, "with the model alone it would still be the model's"


def test_no_trace_is_left_on_disk(engines: Engines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, engine = engines["llama"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine.load(published(trained(folder, seed=5), engine.edition.version + 1))
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_the_engine_is_refused(engines: Engines) -> None:
    folder, engine = engines["llama"]
    newer, model = engine.edition.version + 1, trained(folder, seed=6)
    with pytest.raises(ValueError, match=r"built for AdapterShape\(rank=3, .*rank=2"):
        engine.load(published(trained(folder, seed=6, rank=2), newer))
    with pytest.raises(ValueError, match=r"whole weights was published"):
        engine.load(publish(load_policy(str(folder), "float32", "cpu"), newer))
    good = published(model, newer)
    with pytest.raises(WeightsRefused, match="torn"):
        dataclasses.replace(good, adapters=dataclasses.replace(good.adapters, alpha=1)).verify(newer_than=engine.edition)
    odd = {f"base_model.model.lm_head.{name}": good.arrays[next(iter(good.arrays))] for name in ("nonsense.lora_A.weight",)}
    with pytest.raises(ModelUnsupported, match=r"LlamaForCausalLM .*does not take its adapters.*set learner\.lora_rank=0"):
        engine.load(dataclasses.replace(good, arrays=odd, dtypes=dict.fromkeys(odd, "float32")))
    engine.load(good)
    assert all(
        worst(model, PROMPTS[0], completion) < TOLERANCE
        for completion in engine.submit([request(PROMPTS[0])])[0].result(timeout=120)
    )


def test_other_adapters_than_the_learners_end_the_engine_with_the_models_name(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "llama")
    engine, first, second = VllmEngine(with_adapters(folder)), trained(folder, seed=1), trained(folder, seed=2)
    with pytest.raises(ModelUnsupported, match=r"LlamaForCausalLM .*nats a token away from the learner's"):
        engine.load(dataclasses.replace(published(second, 1), probe=probe(first)))
