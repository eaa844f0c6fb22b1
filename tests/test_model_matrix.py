"""Each architecture either trains as a whole, or is refused with its reason: no third way.

It trains as a whole when vLLM's log-probs are the learner's before and after a publish, the learner's are those of the plain
model, and a saved folder holds equal weights and buffers for transformers and vLLM.
"""

import gc
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from actors.generator import Request
from actors.vllm_engine import VllmEngine
from actors.vllm_weights import LiveModel, ModelUnsupported
from buffer.messages import Completion
from buffer.weights import Probe, PublishedWeights
from launch.setup.model_files import architecture
from launch.setup.model_shape import parameters_of
from learner import batching
from learner.logprobs import TokenLogProbs
from learner.models import load_policy, save_model, saved_buffers, try_saving
from learner.shared_prefix import supports_shared_prefix
from learner.weight_export import probe_token_ids, to_published_weights
from tests.actors.reference_models import settings
from tests.random_models import OWN, make

pytestmark = pytest.mark.slow

IN_MAKE_TEST = ("qwen3_moe", "glm4_moe", "deepseek_v3")  # test_vllm_engine.py has Llama, Qwen3 and Gemma-2
PROMPTS = [tuple(range(5 + i, 90 + 3 * i)) for i in range(3)]  # longer than the window of those that have one
TOLERANCE = 1e-4  # nats a token, float32
TEMPERATURE = 0.7
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

_alive: list[VllmEngine] = []  # all stay alive, as vLLM's process group goes with the first one


@pytest.fixture(scope="module", autouse=True)
def experts_first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first engine of a process decides whether there is a process group for experts (so tests/conftest.py has this file
    before the other one that starts engines)."""
    start(make(tmp_path_factory.mktemp("first"), "qwen3_moe"))
    yield
    _alive.clear()


@pytest.fixture(scope="module", autouse=True)
def vllm_in_this_process() -> Iterator[None]:
    """Frees the engines in the end: with the last one goes vLLM's process group, and tests of the learners make their own."""
    yield
    while _alive:
        _alive.pop().close()
    gc.collect()


def start(folder: Path) -> VllmEngine:
    _alive.append(VllmEngine(settings(folder)))
    return _alive[-1]


def sample(engine: VllmEngine) -> list[tuple[Completion, ...]]:
    asked = [Request(token_ids=p, samples=2, temperature=TEMPERATURE, max_new_tokens=16) for p in PROMPTS]
    return [future.result(timeout=120) for future in engine.submit(asked)]


def of_learner(policy: TokenLogProbs, answers: list[tuple[Completion, ...]]) -> Tensor:
    """What the learner computes for the completions, packed as it packs them."""
    groups = [(prompt, [c.token_ids for c in group]) for prompt, group in zip(PROMPTS, answers, strict=True)]
    rows = batching.pack_rows(groups, 400, share=supports_shared_prefix(policy.model.config))
    completions = [ids for _, group in groups for ids in group]
    with torch.no_grad():
        logprobs: Tensor = policy(batching.collate(rows, completions))[0]
    return logprobs


def plainly(model: Any, answers: list[tuple[Completion, ...]]) -> Tensor:
    """The model's own logits, one completion at a time."""
    found = []
    for prompt, group in zip(PROMPTS, answers, strict=True):
        for completion in group:
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0, len(prompt) - 1 : -1]
            chosen = torch.tensor(completion.token_ids)[:, None]
            found.append((logits.float() / TEMPERATURE).log_softmax(-1).gather(1, chosen)[:, 0])
    return torch.cat(found)


def of_engine(answers: list[tuple[Completion, ...]]) -> Tensor:
    return torch.tensor([value for group in answers for completion in group for value in completion.logprobs])


def whole_state(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()} | saved_buffers(model)


def publish(policy: TokenLogProbs, version: int) -> PublishedWeights:
    """As the GRPO learner publishes."""
    model = policy.model
    ids = probe_token_ids(model.config.vocab_size)
    rows = batching.pack_rows([(ids[:1], [ids[1:]])], len(ids), share=False)
    with torch.no_grad():
        probe = Probe(token_ids=ids, logprobs=tuple(policy(batching.collate(rows, [ids[1:]]), 1.0)[0].tolist()))
    copies = {name: tensor.clone() for name, tensor in whole_state(model).items()}
    return to_published_weights(version, copies, model, probe=probe)


def add_noise(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("kind", [kind if kind in IN_MAKE_TEST else pytest.param(kind, marks=pytest.mark.full) for kind in OWN])
def test_it_trains_as_a_whole(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "start", kind)
    model: Any = load_policy(str(folder), "float32", "cpu").eval()
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    assert parameters_of(architecture(str(folder)) or {}) == sum(p.numel() for p in model.parameters())

    policy, engine = TokenLogProbs(model, temperature=TEMPERATURE), start(folder)
    for version in itertools.count():  # before a publish, after one of the same weights, after one of others
        answers = sample(engine)
        error = (of_engine(answers) - of_learner(policy, answers)).abs().max()
        assert error < TOLERANCE, f"vLLM and learner, after {version} publishes"
        torch.testing.assert_close(of_learner(policy, answers), plainly(plain, answers), atol=TOLERANCE, rtol=0)
        if version == 2:
            break
        if version == 1:
            add_noise(model)
            plain.load_state_dict(model.state_dict())
            assert (of_engine(answers) - of_learner(policy, answers)).abs().max() > 100 * TOLERANCE, "so the check can fail"
        engine.load(publish(policy, version + 1))

    saved = tmp_path / "saved"
    save_model(model, whole_state(model), str(folder), saved)
    again: Any = load_policy(str(saved), "float32", "cpu").eval()
    equal(whole_state(again), whole_state(model))
    equal(dict(again.named_buffers()), dict(model.named_buffers()))
    answers = sample(start(saved))
    assert (of_engine(answers) - of_learner(policy, answers)).abs().max() < TOLERANCE


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        # What vLLM 0.32 does not do: it would sample with a head of random bits, with other weights of the experts, and (on
        # CPU) with other positions.
        ("olmoe", {"tie_word_embeddings": True}, r"OlmoeForCausalLM .*nothing for lm_head\.weight"),
        ("olmoe", {"norm_topk_prob": True}, r"OlmoeForCausalLM .*nats a token away from the learner's .*another architecture"),
        ("deepseek_v3", {"rope_parameters": PLAIN_ROPE}, r"DeepseekV3ForCausalLM .*nats a token away from the learner's"),
    ],
)
@pytest.mark.full
def test_it_is_refused_at_its_first_pull(kind: str, changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    folder = make(tmp_path, kind, **changes)
    policy = TokenLogProbs(load_policy(str(folder), "float32", "cpu").eval(), temperature=TEMPERATURE)
    with pytest.raises(ModelUnsupported, match=why):
        start(folder).load(publish(policy, 0))


def test_weights_that_are_copied_into_packed_experts_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def no_reload(model: Any) -> Iterator[set[str]]:
        yield set()

    monkeypatch.setattr(LiveModel, "_reloading", no_reload)
    folder = make(tmp_path, "qwen3_moe")
    policy = TokenLogProbs(load_policy(str(folder), "float32", "cpu").eval(), temperature=TEMPERATURE)
    with pytest.raises(ModelUnsupported, match="nats a token away from the learner's"):
        start(folder).load(publish(policy, 0))


def test_a_quantised_model_is_refused_by_the_learner(tmp_path: Path) -> None:
    folder = make(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ValueError, match="its weights are quantised and cannot be trained"):
        load_policy(str(folder), "float32", "cpu")


@pytest.mark.full
def test_each_can_be_saved_at_the_start(tmp_path: Path) -> None:
    for kind in OWN:
        folder = make(tmp_path / kind, kind)
        try_saving(load_policy(str(folder), "float32", "cpu"), str(folder), tmp_path / "trials")
    assert not list((tmp_path / "trials").iterdir())
