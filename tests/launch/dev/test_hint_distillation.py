"""Self-distillation of the hint: its loss by worked numbers, and that a few steps of each arm do what they are for."""

from math import log

import pytest
import torch

from configs.load import load
from launch.dev.hint_distillation import ARMS, Ablation, completion_logits, divergence, train

SMALL = ["cold_start.preferences=8", "cold_start.batch=8", "data.train=[tiny:1:40]", "data.heldout=[tinyheld:2:4:2]"]


@pytest.fixture(scope="module")
def ablation() -> Ablation:
    torch.set_num_threads(1)
    return Ablation(load("tiny", SMALL))


def test_the_divergence_by_hand() -> None:
    """KL((1/2, 1/2) || (9/10, 1/10)) = 1/2 log 5/9 + 1/2 log 5; along the first logit its gradient is
    p (log p/q - KL) = 1/2 (log 5/9 - KL)."""
    policy = torch.tensor([[0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[log(0.9), log(0.1)]], requires_grad=True)
    found = divergence(policy, teacher)
    expected = 0.5 * log(5 / 9) + 0.5 * log(5)
    assert found.tolist() == pytest.approx([expected])
    found.sum().backward()
    assert policy.grad is not None
    assert policy.grad[0].tolist() == pytest.approx([0.5 * (log(5 / 9) - expected), 0.5 * (log(5) - expected)], abs=1e-6)
    assert teacher.grad is None


def test_equal_distributions_teach_nothing() -> None:
    policy = torch.tensor([[1.0, 2.0, -1.0]], requires_grad=True)
    divergence(policy, policy + 3.0).sum().backward()
    assert policy.grad is not None
    assert policy.grad.abs().max() < 1e-6


def test_logits_of_a_padded_batch_are_those_of_each_row(ablation: Ablation) -> None:
    model = ablation.base()
    prompts = [each.plain for each in ablation.told[:2]] + [ablation.told[2].hinted]
    completions = [(7, 8, 9), (10,), (11, 12)]
    with torch.no_grad():
        together = completion_logits(model, prompts, completions)
        alone = [completion_logits(model, [p], [c]) for p, c in zip(prompts, completions, strict=True)]
    assert together.shape[0] == 6
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_told_and_untold_prompts_differ_in_the_hint_alone(ablation: Ablation) -> None:
    for each in ablation.told:
        plain, hinted = (ablation.tokenizer.decode(ids) for ids in (each.plain, each.hinted))
        n = len(each.permutation)
        place = each.preference.label if n == 1 else each.permutation.index(each.preference.label)
        assert "Hint" in hinted
        assert "Hint" not in plain
        if n > 1:
            assert f"Response {place + 1} is the best" in hinted


@pytest.mark.slow
def test_a_few_steps_bring_the_policy_nearer_to_what_it_says_when_it_is_told(ablation: Ablation) -> None:
    told = ablation.told
    torch.manual_seed(1)
    completions = ablation.sample(ablation.base(), [each.plain for each in told])
    with torch.no_grad():
        teacher = completion_logits(ablation.base(), [each.hinted for each in told], completions)
    seen: list[float] = []

    def look(step: int, model: object) -> None:
        with torch.no_grad():
            policy = completion_logits(model, [each.plain for each in told], completions)
        seen.append(divergence(policy, teacher).mean().item())

    look(0, ablation.base())
    train(ablation, "distilled", steps=3, lr=2e-5, look=look, every=1)
    assert sorted(seen, reverse=True) == seen, "5.8e-3, 5.3e-3, 5.1e-3, 5.0e-3 nats a token"


@pytest.mark.slow
def test_the_other_arm_imitates_right_judgements_alone(ablation: Ablation) -> None:
    torch.manual_seed(0)
    model = ablation.base()
    before = ARMS["hinted"](ablation, model)(ablation.told).item()
    train(ablation, "hinted", steps=2, lr=5e-4, look=lambda step, model: None, every=2)
    assert 0 < before < 5
    assert 0 <= ablation.accuracy(model) <= 1
