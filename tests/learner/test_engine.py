"""The optimiser step against plain torch, and what the engine promises about DeepSpeed."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from buffer.messages import ExperienceGroup
from configs.schema import Config
from learner import engine
from learner.engine import Engine, EngineSettings, Ranks
from learner.grpo import PolicyUpdate
from learner.models import load_classifier, load_policy
from tests.learner.run_by_hand import config, experience


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    joined = Ranks(
        rank=0, world=1, host="127.0.0.1", port=engine.free_port("127.0.0.1"), device="cpu", timeout_s=60
    )
    yield joined
    joined.leave()


def settings(**changes: Any) -> EngineSettings:
    base: dict[str, Any] = {
        "zero_stage": 0, "lr": 0.1, "warmup_steps": 0, "weight_decay": 0.0, "grad_clip": 1e9,
        "gradient_checkpointing": False, "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    return EngineSettings(**base | changes)


class Plain:
    """GRPO as one would write it on a page: plain torch, one completion at a time, the model's own logits."""

    def __init__(self, settings: Config) -> None:
        self.grpo = settings.grpo
        load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
        self.policy, self.reference = (load(settings.model.path, attn_implementation="eager") for _ in range(2))
        self.optimiser = torch.optim.AdamW(
            self.policy.parameters(), lr=settings.grpo.lr, weight_decay=settings.grpo.weight_decay
        )

    def step(self, groups: list[ExperienceGroup], lr: float) -> tuple[float, float]:
        """Loss and gradient norm of one optimiser step."""
        total = torch.tensor(0.0)
        count = sum(len(group.rewards) for group in groups)
        for group in groups:
            rewards = torch.tensor(group.rewards)
            advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
            for i, completion in enumerate(group.completion_ids):
                new = self.logprobs(self.policy, group.prompt_ids, completion)
                reference = self.logprobs(self.reference, group.prompt_ids, completion).detach()
                weight = (new.detach() - torch.tensor(group.logprobs[i])).exp().clamp(max=self.grpo.tis_cap)
                ratio = (new - new.detach()).exp()
                k3 = (reference - new).exp() - (reference - new) - 1
                total = total + (-weight * ratio * advantages[i] + self.grpo.beta * k3).mean() / count
        self.optimiser.zero_grad()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.grpo.grad_clip)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        return total.item(), norm.item()

    @staticmethod
    def logprobs(model: Any, prompt: tuple[int, ...], completion: tuple[int, ...]) -> Tensor:
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        return torch.log_softmax(logits, -1)[range(len(completion)), completion]


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_three_steps_of_grpo_equal_plain_torch(model: Path, ranks: Ranks, zero_stage: int) -> None:
    chosen = config(
        model,
        grpo={"lr": 1e-3, "warmup_steps": 4, "weight_decay": 0.1, "grad_clip": 0.5, "beta": 0.1},
        learner={"zero_stage": zero_stage, "micro_tokens": 64},
    )
    update, plain = PolicyUpdate(chosen, ranks, str(model)), Plain(chosen)
    for step in range(3):
        groups = [experience(10 * step + number, step) for number in range(3)]
        loss, metrics = update.apply(groups)
        lr = 1e-3 * (step + 1) / 4
        expected_loss, expected_norm = plain.step(groups, lr)
        assert loss == pytest.approx(expected_loss, abs=1e-5)
        assert metrics["optim/grad_norm"] == pytest.approx(expected_norm, rel=1e-5)
        assert metrics["optim/grad_norm"] > chosen.grpo.grad_clip, "clipping is part of what is compared"
        assert metrics["optim/lr"] == pytest.approx(lr)
    state = update.engine.full_state(update.engine.module.model)
    for name, parameter in plain.policy.named_parameters():
        assert (state[name] - parameter).norm() <= 1e-5 * parameter.norm(), name
    update.engine.close()


def test_nothing_is_compiled_on_first_use(ranks: Ranks) -> None:
    from deepspeed.comm.torch import build_shm_op

    assert build_shm_op() is None, "a build takes minutes, and a killed one hangs whoever comes next"
    assert torch.distributed.get_backend() == "gloo"
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_a_gradient_that_is_not_finite_stops_the_run(ranks: Ranks, zero_stage: int) -> None:
    class Bad(nn.Linear):
        def forward(self, factor: Tensor) -> Tensor:
            return super().forward(torch.ones(1, 2)).sum() * factor

    bad = Engine(lambda: Bad(2, 1), settings(zero_stage=zero_stage), ranks)
    bad.backward(bad(torch.tensor(math.nan)), last=True)
    with pytest.raises(FloatingPointError, match="gradient norm"):
        bad.step()
    bad.close()


def test_a_rank_that_never_comes_is_named() -> None:
    port = engine.free_port("127.0.0.1")
    with pytest.raises(RuntimeError, match=f"rank 0 waited up to 2 s at 127.0.0.1:{port} for all 2 ranks"):
        Ranks(rank=0, world=2, host="127.0.0.1", port=port, device="cpu", timeout_s=2)


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"no GPU, but cluster\.device is cuda"):
        Ranks(rank=0, world=1, host="127.0.0.1", port=1, device="cuda", timeout_s=1)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_in_bfloat16_it_is_the_same_within_its_precision(model: Path, ranks: Ranks, zero_stage: int) -> None:
    leaves = {"zero_stage": zero_stage, "gradient_checkpointing": True}
    results = []
    for dtype in ("float32", "bfloat16"):
        chosen = config(model, model={"path": str(model), "dtype": dtype}, learner=leaves)
        update = PolicyUpdate(chosen, ranks, str(model))
        loss, metrics = update.apply([experience(number, 0) for number in range(3)])
        state = update.engine.full_state(update.engine.module.model)
        assert {str(tensor.dtype) for tensor in state.values()} == {f"torch.{dtype}"}
        results.append((loss, metrics["optim/grad_norm"]))
        update.engine.close()
    assert results[1] == pytest.approx(results[0], rel=0.1, abs=0.01)


def test_bytes_travel_whole(ranks: Ranks) -> None:
    for payload in (b"", b"\x00", b"\x00\xff" * 1000):
        assert ranks.broadcast_bytes(payload) == payload


def test_sums_are_copies(ranks: Ranks) -> None:
    values = torch.tensor([1.5, 2.5], dtype=torch.float64)
    total = ranks.sum(values)
    total += 1
    assert values.tolist() == [1.5, 2.5]


def test_a_model_whose_weights_are_not_all_there_is_refused(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(model / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (load_policy, load_classifier):
        with pytest.raises(ValueError, match=r"weights are missing.*model\.norm\.weight"):
            load(str(tmp_path), "float32")


def test_weights_travel_as_they_are_in_either_precision(model: Path) -> None:
    from learner.weights import published

    for dtype in ("float32", "bfloat16"):
        state = dict(load_policy(str(model), dtype).named_parameters())
        sealed = published(3, {name: parameter.detach() for name, parameter in state.items()})
        sealed.verify(newer_than=2)
        assert set(sealed.dtypes.values()) == {dtype}
        for name, parameter in state.items():
            back = torch.from_numpy(sealed.arrays[name].copy()).view(getattr(torch, dtype))
            assert torch.equal(back, parameter)
