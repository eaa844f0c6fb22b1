"""The vLLM engine against transformers: what it samples from after a pull is what was published."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from actors.vllm_build import BATCHED_TOKENS
from actors.vllm_engine import Aborted, EngineDead, VllmEngine
from actors.vllm_probe import DECODED, Probes
from actors.vllm_weights import ModelUnsupported
from buffer.messages import Completion
from buffer.weights import Edition, WeightsRefused, seal
from tests.actors.reference_models import PROMPTS, TOLERANCE, noised, probe, publish, request, settings, worst
from tests.random_models import make

pytestmark = pytest.mark.slow

KINDS = {"llama-tied": ("llama", True), "llama-untied": ("llama", False), "qwen3": ("qwen3", True), "gemma2": ("gemma2", True)}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, VllmEngine]]:
    """One engine for each architecture; all stay alive, as vLLM's process group goes with the first one."""
    built = {}
    for name, (kind, tied) in KINDS.items():
        folder = make(tmp_path_factory.mktemp(name), kind, tied=tied)
        built[name] = (folder, VllmEngine(settings(folder)))
    return built


@pytest.mark.parametrize("name", KINDS)
def test_after_each_pull_it_samples_from_the_published_weights(name: str, engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines[name]
    before = noised(folder, seed=0, scale=0.0)
    first = engine.edition.version
    for prompt, future in zip(PROMPTS, engine.submit([request(p) for p in PROMPTS]), strict=True):
        for completion in future.result(timeout=120):
            assert first > 0 or worst(before, prompt, completion) < TOLERANCE
    for step in (1, 2):
        model = noised(folder, seed=step)
        engine.load(publish(model, first + step))
        assert engine.edition.version == first + step
        answers = [f.result(timeout=120) for f in engine.submit([request(p) for p in PROMPTS])]
        for prompt, completions in zip(PROMPTS, answers, strict=True):
            for completion in completions:
                assert worst(model, prompt, completion) < TOLERANCE
                assert worst(before, prompt, completion) > 100 * TOLERANCE  # so the check can fail
                assert set(completion.versions) == {first + step}


def test_no_process_looks_at_an_architecture(
    engines: dict[str, tuple[Path, VllmEngine]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though none is known yet, as at the first start on a machine."""
    from vllm.model_executor.models import registry  # which reads the environment that an engine sets

    monkeypatch.setattr(registry._LazyRegisteredModel, "_get_cache_dir", lambda _: tmp_path)
    monkeypatch.setattr("subprocess.Popen", lambda *command, **_: pytest.fail(f"started {command}"))
    registry.ModelRegistry.models["LlamaForCausalLM"].inspect_model_cls()
    assert list(tmp_path.rglob("*LlamaForCausalLM.json")), "it was not known"


@pytest.mark.parametrize("name", KINDS)
def test_greedy_text_is_that_of_transformers(name: str, engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines[name]
    model = noised(folder, seed=7)
    engine.load(publish(model, engine.edition.version + 1))
    answer = engine.submit([request(PROMPTS[0], samples=1, temperature=0.0)])[0].result(timeout=120)[0]
    theirs = model.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=24, do_sample=False)[0, len(PROMPTS[0]) :]
    assert list(answer.token_ids) == theirs.tolist()


def test_bfloat16_travels_as_its_bits(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines["llama-tied"]
    model = noised(folder, seed=11)
    weights = publish(model, engine.edition.version + 1, torch.bfloat16)
    assert {str(array.dtype) for array in weights.arrays.values()} == {"int16"}
    engine.load(weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    completion = engine.submit([request(PROMPTS[0])])[0].result(timeout=120)[0]
    assert worst(model, PROMPTS[0], completion) < TOLERANCE


def test_logits_of_a_bfloat16_model_are_float32_and_of_the_published_weights(tmp_path: Path) -> None:
    """With tied embeddings: the head is what the pull brings, and stays in bfloat16 itself."""
    folder = make(tmp_path / "m", "llama")
    engine, model = VllmEngine(settings(folder, dtype="bfloat16")), noised(folder, seed=12)
    model = model.to(torch.bfloat16)
    engine.load(dataclasses.replace(publish(model, 1, torch.bfloat16), probe=probe(model)))
    hidden = 8 * torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    logits, head = engine._model._model.compute_logits(hidden), model.get_output_embeddings().weight
    exact = hidden.double() @ head.double().t()
    assert logits.dtype == torch.float32
    assert (logits - exact).abs().max() < 1e-4 < 1e-2 < ((hidden @ head.t()) - exact).abs().max()


def test_a_pull_in_flight_keeps_the_sequences_and_tags_each_token(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines["llama-tied"]
    old = engine.edition.version
    model = noised(folder, seed=3)
    weights = publish(model, old + 1)
    running = engine.submit([request(p, samples=4, tokens=190) for p in PROMPTS])
    engine.load(weights)
    late = engine.submit([request(PROMPTS[0])])[0].result(timeout=120)
    spans = [c.versions for future in running for c in future.result(timeout=120) if c.finish == "length"]
    assert spans
    assert all(versions == tuple(sorted(versions)) for versions in spans)
    assert any(set(versions) == {old, old + 1} for versions in spans)
    # the same prompt again: its prefix is computed anew, not read from the cache of the older weights
    assert all(worst(model, PROMPTS[0], completion) < TOLERANCE for completion in late)


def test_an_engine_that_computes_something_else_than_the_learner_ends_with_the_models_name(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "llama")
    engine, first, second = VllmEngine(settings(folder)), noised(folder, seed=1), noised(folder, seed=2)
    engine.load(dataclasses.replace(publish(first, 1), probe=probe(first)))
    wrong = dataclasses.replace(publish(second, 2), probe=probe(first))
    with pytest.raises(ModelUnsupported, match=r"LlamaForCausalLM .*nats a token away from the learner's \(at most 0.02\)"):
        engine.load(wrong)
    running = engine.submit([request(p, samples=4, tokens=190) for p in PROMPTS])
    engine.load(dataclasses.replace(wrong, version=3))  # it is busy: the probe is computed beside what runs
    with pytest.raises(ModelUnsupported, match=r"weights of version 3, .*nats a token away from the learner's"):
        [future.result(timeout=120) for future in running]


def test_an_engine_that_decodes_otherwise_than_it_reads_is_refused(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    """Its outputs are made by hand, since no architecture here does so."""
    folder, _ = engines["llama-tied"]
    model, asked = noised(folder, seed=1), []
    stub: Any = SimpleNamespace(
        add_request=lambda *request, **_: asked.append(request), unsupported=ModelUnsupported, lora_request=None
    )
    weights = dataclasses.replace(publish(model, 3), probe=probe(model))
    assert weights.probe is not None
    read, decoded = [*weights.probe.token_ids], [*range(40, 40 + DECODED)]
    for off in (0.0, 0.1):
        probes = Probes(stub, stub, "float32")
        probes.start(weights)
        first = output(asked[-1][0], read, weights.probe.logprobs, decoded, [-1.0] * DECODED)
        assert probes.take(first, weights.edition)
        assert asked[-1][1] == {"prompt_token_ids": read + decoded}
        again = output(asked[-1][0], read + decoded, [*weights.probe.logprobs, *[-1.0 + off] * DECODED], [7], [-2.0])
        if off:
            with pytest.raises(ModelUnsupported, match=r"version 3, .* 0\.10 nats a token away from its own when it decodes"):
                probes.take(again, weights.edition)
        else:
            assert probes.take(again, weights.edition)
            assert not probes, "two requests, and no third"


def output(name: str, prompt: list[int], reads: Sequence[float], decoded: list[int], decodes: Sequence[float]) -> Any:
    """One of vLLM's."""
    at_prompt = [{token: SimpleNamespace(logprob=value)} for token, value in zip(prompt[1:], reads, strict=True)]
    at_decoded = [{token: SimpleNamespace(logprob=value)} for token, value in zip(decoded, decodes, strict=True)]
    ended = SimpleNamespace(token_ids=decoded, logprobs=at_decoded)
    return SimpleNamespace(request_id=name, prompt_token_ids=prompt, prompt_logprobs=[None, *at_prompt], outputs=[ended])


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "llama")
    whole = publish(noised(folder, seed=1), 1)
    some = {name: array for name, array in whole.arrays.items() if name != "model.norm.weight"}
    with pytest.raises(ModelUnsupported, match=r"LlamaForCausalLM .*nothing for model\.norm\.weight \(of 1\)"):
        VllmEngine(settings(folder)).load(seal(1, some, {name: whole.dtypes[name] for name in some}))
    with pytest.raises(ModelUnsupported, match=r"LlamaForCausalLM .*does not take the published weights"):
        VllmEngine(settings(folder)).load(seal(1, {"odd": whole.arrays["model.norm.weight"]}, {"odd": "float32"}))


def test_log_probs_are_those_of_the_sampling_temperature(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines["llama-untied"]
    model = noised(folder, seed=5)
    engine.load(publish(model, engine.edition.version + 1))
    for temperature in (0.3, 1.0, 1.7):
        completion = engine.submit([request(PROMPTS[1], temperature=temperature)])[0].result(timeout=120)[0]
        assert worst(model, PROMPTS[1], completion, temperature) < TOLERANCE


def test_stale_and_torn_weights_are_refused(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, _ = engines["llama-tied"]
    weights = publish(noised(folder, seed=2), 5)
    weights.verify(newer_than=Edition(0, 4))
    with pytest.raises(WeightsRefused, match="stale"):
        weights.verify(newer_than=Edition(0, 5))
    name = next(iter(weights.arrays))
    torn = dict(weights.arrays) | {name: weights.arrays[name] + 1}
    with pytest.raises(WeightsRefused, match="torn"):
        dataclasses.replace(weights, arrays=torn).verify(newer_than=Edition(0, 4))
    assert seal(6, weights.arrays, weights.dtypes).checksum != weights.checksum  # the version is under the seal too


def test_the_same_requests_on_the_same_seed_are_the_same_samples(
    engines: dict[str, tuple[Path, VllmEngine]], tmp_path: Path
) -> None:
    folder = make(tmp_path / "m", "llama")

    def sampled(seed: int) -> list[tuple[Completion, ...]]:
        engine = VllmEngine(settings(folder, seed))
        return [f.result(timeout=120) for f in engine.submit([request(p, temperature=1.0) for p in PROMPTS])]

    first, second, other = sampled(42), sampled(42), sampled(43)
    assert first == second  # tokens, log-probs to the last bit, versions
    assert first != other


def ids(completions: tuple[Completion, ...]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


@pytest.mark.parametrize("name", ["llama-tied", "gemma2"])
def test_a_seeded_request_gives_the_same_tokens_whatever_else_is_running(
    name: str, engines: dict[str, tuple[Path, VllmEngine]]
) -> None:
    _, engine = engines[name]
    asked = [request(prompt, samples=3, temperature=1.0, seed=7 + i) for i, prompt in enumerate(PROMPTS)]
    first = [ids(future.result(timeout=120)) for future in engine.submit(asked)]
    alone = [ids(engine.submit([one])[0].result(timeout=120)) for one in asked]
    others = engine.submit([request(prompt, samples=4, temperature=1.0, tokens=190) for prompt in PROMPTS])
    among = [ids(future.result(timeout=120)) for future in engine.submit(asked[::-1])][::-1]
    assert not all(future.done() for future in others), "others were running all the time"
    assert first == alone == among
    for future in others:
        future.result(timeout=120)


def test_the_samples_of_a_request_are_those_of_requests_with_the_next_seeds(
    engines: dict[str, tuple[Path, VllmEngine]],
) -> None:
    _, engine = engines["llama-tied"]
    (together,) = engine.submit([request(PROMPTS[0], samples=3, temperature=1.0, seed=7)])
    alone = engine.submit([request(PROMPTS[0], samples=1, temperature=1.0, seed=7 + i) for i in range(3)])
    assert ids(together.result(timeout=120)) == [ids(future.result(timeout=120))[0] for future in alone]


def test_another_seed_gives_other_tokens_and_so_does_each_sample_of_one(
    engines: dict[str, tuple[Path, VllmEngine]],
) -> None:
    _, engine = engines["llama-tied"]
    found = [
        completion
        for future in engine.submit([request(PROMPTS[0], samples=8, temperature=1.0, seed=seed) for seed in (1, 2**31 - 1)])
        for completion in ids(future.result(timeout=120))
    ]
    assert len(set(found)) == 16


def test_many_long_seeded_prompts_at_once_are_all_answered(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines["llama-tied"]
    prompts = [tuple(4 + (7 * i + j) % 250 for j in range(200)) for i in range(64)]
    assert settings(folder).sequences * 200 > BATCHED_TOKENS, "a step cannot hold all that run"
    asked = [request(prompt, samples=1, temperature=1.0, tokens=4, seed=i) for i, prompt in enumerate(prompts)]
    answers = [ids(future.result(timeout=120)) for future in engine.submit(asked)]
    assert [ids(engine.submit([one])[0].result(timeout=120)) for one in asked[:3]] == answers[:3]


def test_what_has_no_place_in_a_step_waits(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    folder, engine = engines["llama-tied"]
    places = settings(folder).sequences
    assert engine.waiting == 0
    done = engine.submit([request(PROMPTS[0], samples=places + 10, tokens=190)])
    wait_for_step(engine)
    assert 0 < engine.waiting <= 10
    assert len(done[0].result(timeout=120)) == places + 10
    assert engine.waiting == 0


def test_a_request_that_nobody_waits_for_is_ended_and_the_others_go_on(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    _, engine = engines["llama-tied"]
    expected = ids(engine.submit([request(PROMPTS[1], samples=1, temperature=1.0, seed=3)])[0].result(timeout=120))
    unwanted, cancelled = engine.submit([request(PROMPTS[0], samples=4, tokens=190), request(PROMPTS[0], tokens=190)])
    (wanted,) = engine.submit([request(PROMPTS[1], samples=1, temperature=1.0, seed=3)])
    assert not cancelled.cancel(), "the engine's thread would end with it"
    wait_for_step(engine)
    engine.abort([unwanted, cancelled])
    for future in (unwanted, cancelled):
        with pytest.raises(Aborted):
            future.result(timeout=120)
    assert ids(wanted.result(timeout=120)) == expected
    assert engine.waiting == 0
    engine.abort([unwanted, wanted])


def wait_for_step(engine: VllmEngine) -> None:
    steps, deadline = engine.steps, time.monotonic() + 120
    while engine.steps == steps:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_request_that_cannot_be_served_fails_alone(engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    from vllm.exceptions import VLLMValidationError  # here: not every process that collects tests has to import vLLM

    _, engine = engines["llama-tied"]
    with pytest.raises(VLLMValidationError, match="maximum context length is 256"):
        engine.submit([request(tuple(range(300)))])
    assert engine.submit([request(PROMPTS[0])])[0].result(timeout=120)


def test_a_closed_engine_refuses_requests(tmp_path: Path, engines: dict[str, tuple[Path, VllmEngine]]) -> None:
    engine = VllmEngine(settings(make(tmp_path / "m", "llama")))
    engine.close()
    with pytest.raises(EngineDead, match="closed"):
        engine.submit([request(PROMPTS[0])])
