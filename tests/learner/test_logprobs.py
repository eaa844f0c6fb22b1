"""Log-probs and their gradients against the plain computation: whole logits of one unpadded row, log_softmax."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from learner import head_logprobs
from learner.batching import Tokens, collate, pack_rows
from learner.logprobs import TokenLogProbs
from learner.models import load_policy
from learner.shared_prefix import supports_shared_prefix
from tests import random_models

GROUPS = [([1, 2, 3], [[10, 11, 12, 13, 14, 15, 16], [15], [10, 17]]), ([4, 5], [[15]]), ([6, 7, 8, 9, 10], [[16, 17], [18]])]
COMPLETIONS = [completion for _, group in GROUPS for completion in group]
COUNT = sum(map(len, COMPLETIONS))
WHOLE = 1 << 24
ONE_TOKEN = 1


def tokens(*, share: bool) -> Tokens:
    return collate(pack_rows(GROUPS, 100, share=share), COMPLETIONS)


def plainly(model: Any, temperature: float) -> tuple[Tensor, Tensor]:
    """Return log-probs and entropies, one completion at a time: no padding, sharing or chunks, the model's own logits."""
    logprobs, entropies = [], []
    for prompt, group in GROUPS:
        for completion in group:
            logits = model(torch.tensor([prompt + completion])).logits[0].float() / temperature
            rows = logits[range(len(prompt) - 1, len(prompt) + len(completion) - 1)]
            logprobs.append(torch.log_softmax(rows, dim=-1)[range(len(completion)), completion])
            entropies.append(torch.distributions.Categorical(logits=rows).entropy().detach())
    return torch.cat(logprobs), torch.cat(entropies)


def narrow_window(folder: Path) -> None:
    """Make it so short that a completion does not attend to all of its prompt (Gemma-2 has one in every other layer)."""
    config = json.loads((folder / "config.json").read_text())
    if config.get("sliding_window"):
        (folder / "config.json").write_text(json.dumps(config | {"sliding_window": 3}))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("share", [True, False], ids=["shared prefix", "alone"])
@pytest.mark.parametrize("chunk_logits", [WHOLE, ONE_TOKEN, 1000], ids=["whole", "token by token", "chunks"])
def test_equal_to_the_plain_computation(tmp_path: Path, kind: str, tied: bool, share: bool, chunk_logits: int) -> None:
    folder = random_models.make(tmp_path, kind, tied=tied)
    narrow_window(folder)
    check_plain(load_policy(str(folder), "float32", "cpu"), folder, share=share, chunk_logits=chunk_logits)


def check_plain(model: Any, folder: Path, *, share: bool, chunk_logits: int = WHOLE) -> None:
    """Compare log-probs, entropies and gradients of a model that was loaded from `folder` with the plain computation."""
    assert supports_shared_prefix(model.config)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    weights = torch.randn(COUNT, generator=torch.Generator().manual_seed(0))

    logprobs, entropies = TokenLogProbs(model, temperature=0.7, chunk_logits=chunk_logits)(tokens(share=share))
    expected, expected_entropies = plainly(plain, 0.7)
    torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropies, expected_entropies, atol=1e-5, rtol=1e-5)
    assert not entropies.requires_grad, "a metric, not a part of the loss"
    assert logprobs.requires_grad

    (logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        expected_gradient = gradients[name].grad
        error = (parameter.grad - expected_gradient).abs().max() / expected_gradient.abs().max()
        assert error <= 1e-5, name


def test_a_completion_is_blind_to_its_neighbours(model: Path) -> None:
    policy = TokenLogProbs(load_policy(str(model), "float32", "cpu"), temperature=1.0)
    prompt, completion = [1, 2, 3], [4, 5, 6]
    with torch.no_grad():
        results = []
        for other in ([7, 8, 9], [10, 11, 12]):
            group = [completion, other, completion]
            results.append(policy(collate(pack_rows([(prompt, group)], 100, share=True), group))[0])
    assert torch.equal(results[0][:3], results[1][:3])
    assert torch.equal(results[0][6:], results[1][6:])
    torch.testing.assert_close(results[0][:3], results[0][6:])


def test_the_caps_of_gemma_2_are_applied(tmp_path: Path) -> None:
    folder = random_models.make(tmp_path, "gemma2")
    with torch.no_grad():
        capped: Any = load_policy(str(folder), "float32", "cpu")
        base, _ = TokenLogProbs(capped, temperature=1.0)(tokens(share=True))
        assert capped.config._attn_implementation == "eager", "the fused kernel leaves the cap on attention out"
        capped.config.final_logit_softcapping = 1.0
        assert (TokenLogProbs(capped, temperature=1.0)(tokens(share=True))[0] - base).abs().max() > 0.1


def test_no_more_logits_than_a_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = load_policy(str(random_models.make(tmp_path, "llama")), "float32", "cpu")
    made: list[int] = []
    capped = head_logprobs._capped

    def watched(*args: Any) -> Tensor:
        logits = capped(*args)
        made.append(len(logits))
        return logits

    monkeypatch.setattr(head_logprobs, "_capped", watched)
    limit = 3 * model.config.vocab_size
    TokenLogProbs(model, temperature=1.0, chunk_logits=limit)(tokens(share=True))[0].sum().backward()
    forward = [3, 3, 3, 3, 2]
    assert sum(forward) == COUNT
    assert made == forward * 2, "each chunk once forwards, once again backwards"
    made.clear()
    TokenLogProbs(model, temperature=1.0)(tokens(share=True))[0].sum().backward()
    assert made == [COUNT], "a single chunk is kept"


def test_they_are_probabilities(model: Path) -> None:
    """Over all tokens that could follow, they sum to 1 at any temperature."""
    policy: Any = load_policy(str(model), "float32", "cpu")
    vocabulary = policy.config.vocab_size
    with torch.no_grad():
        for temperature in (0.5, 1.0, 2.0):
            completions = [[token] for token in range(vocabulary)]
            rows = pack_rows([([1, 2, 3], completions)], 1000, share=True)
            total = TokenLogProbs(policy, temperature=temperature)(collate(rows, completions))[0].exp().sum()
            assert total.item() == pytest.approx(1.0, abs=1e-4)


def test_dropout_is_off_and_training_mode_changes_nothing(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_dropout=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    policy = TokenLogProbs(load_policy(str(tmp_path), "float32", "cpu"), temperature=1.0).train()
    results = [policy(tokens(share=True))[0] for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in pairwise(results))


def test_an_unknown_scaling_of_logits_is_refused(model: Path) -> None:
    policy: Any = load_policy(str(model), "float32", "cpu")
    policy.config.logits_scaling = 8.0
    with pytest.raises(ValueError, match="logits_scaling"):
        TokenLogProbs(policy, temperature=1.0)
