"""The optimiser step against plain torch, and what the engine and the ranks promise about DeepSpeed."""

import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from buffer.messages import ExperienceGroup
from configs.schema import Config
from learner.checkpoint import CheckpointError
from learner.deepspeed_engine import Engine, NotFinite
from learner.deepspeed_settings import DeepSpeedSettings
from learner.policy_update import PolicyUpdate
from learner.ranks import Ranks
from tests.learner.run_by_hand import config, experience


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    joined = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    yield joined
    joined.leave()


def settings(**changes: Any) -> DeepSpeedSettings:
    base: dict[str, Any] = {
        "zero_stage": 0,
        "lr": 0.1,
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "grad_clip": 1e9,
        "gradient_checkpointing": False,
        "device": "cpu",
        "dtype": "float32",
        "optimizer_offload": False,
    }
    return DeepSpeedSettings(**base | changes)


class Plain:
    """GRPO in as few lines as possible: plain torch, one completion at a time, the model's own logits."""

    def __init__(self, settings: Config) -> None:
        self.grpo = settings.grpo
        load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
        self.policy, self.reference = (load(settings.model.path, attn_implementation="eager") for _ in range(2))
        self.optimiser = torch.optim.AdamW(
            self.policy.parameters(), lr=settings.grpo.lr, weight_decay=settings.grpo.weight_decay
        )

    def step(self, groups: list[ExperienceGroup], lr: float) -> tuple[float, float]:
        """Return loss and gradient norm of one optimiser step."""
        total = torch.tensor(0.0)
        count = sum(len(group.rewards) for group in groups)
        for group in groups:
            rewards = torch.tensor(group.rewards)
            advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
            read = [prompt for prompt, count in zip(group.prompt_ids, group.samples, strict=True) for _ in range(count)]
            for i, (prompt, completion) in enumerate(zip(read, group.completion_ids, strict=True)):
                new = self.logprobs(self.policy, prompt, completion)
                reference = self.logprobs(self.reference, prompt, completion).detach()
                weight = (new.detach() - torch.tensor(group.logprobs[i])).exp().clamp(max=2.0)
                ratio = (new - new.detach()).exp()
                k3 = (reference - new).exp() - (reference - new) - 1
                total = total + (weight * ratio * (self.grpo.beta * k3 - advantages[i])).mean() / count
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

    assert build_shm_op() is None, "a build takes minutes, and a killed one hangs the next process"
    assert torch.distributed.get_backend() == "gloo"
    assert torch.get_num_threads() == 1


class Sums(nn.Linear):
    """A loss whose value and gradient a test chooses."""

    def forward(self, factor: Tensor, offset: Tensor) -> Tensor:
        return super().forward(self.weight.new_ones(1, 2)).sum() * factor + offset


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize(("factor", "offset"), [(math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, -math.inf)])
def test_a_loss_or_gradient_that_is_not_finite_is_no_step(ranks: Ranks, zero_stage: int, factor: float, offset: float) -> None:
    sums = Engine(lambda: Sums(2, 1), settings(zero_stage=zero_stage), ranks)
    before = sums.full_state(sums.module)
    good = torch.tensor(1.0), torch.tensor(0.0)
    for bad in range(3):
        for number in range(3):
            loss = sums(*((torch.tensor(factor), torch.tensor(offset)) if number == bad else good))
            sums.backward(loss, last=number == 2)
        with pytest.raises(NotFinite):
            sums.step()
        assert all(torch.equal(before[name], now) for name, now in sums.full_state(sums.module).items())
    sums.backward(sums(*good), last=True)
    assert sums.step().grad_norm == pytest.approx(math.sqrt(3)), "of this batch alone: the gradient is 1 for each of three"
    sums.close()


@pytest.mark.parametrize("offload", [False, True], ids=["", "offload"])
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_gradients_of_bfloat16_are_summed_in_float32(ranks: Ranks, zero_stage: int, offload: bool) -> None:
    """1 and seven times 2^-9, of each of three parameters. In bfloat16, where 1 + 2^-7 comes after 1, the sum would stay 1."""
    chosen = settings(zero_stage=zero_stage, dtype="bfloat16", optimizer_offload=offload)
    sums = Engine(lambda: Sums(2, 1).bfloat16(), chosen, ranks)
    for factor in [1.0] + 7 * [2.0**-9]:
        sums.backward(sums(torch.tensor(factor), torch.tensor(0.0)), last=False)
    sums.backward(sums(torch.tensor(0.0), torch.tensor(0.0)), last=True)
    assert sums.step().grad_norm == pytest.approx(math.sqrt(3) * (1 + 7 / 512), rel=1e-5)
    sums.close()


def test_an_offloaded_optimiser_has_the_cores_of_its_machine_but_for_those_of_other_ranks(
    ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four ranks are on this machine of 64 cores: 32 threads for each, not 16."""
    threads: list[int] = []
    monkeypatch.setattr(ranks, "on_this_machine", lambda: 2)
    monkeypatch.setattr(ranks, "world", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64))
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    def build() -> nn.Module:
        raise RuntimeError("here the model would be built")

    for offload in (True, False):
        with pytest.raises(RuntimeError, match="would be built"):
            Engine(build, settings(device="cuda", optimizer_offload=offload), ranks)
    assert threads == [32]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_offloaded_states_make_the_same_steps(model: Path, ranks: Ranks, tmp_path: Path, zero_stage: int, dtype: str) -> None:
    """As far as a CPU can tell: DeepSpeed's path of offloading runs, and another run goes on from what it saves."""
    first, second = ([experience(number, 0) for number in numbers] for numbers in ((0, 1), (2, 3)))
    found = []
    for offload in (False, True):
        chosen = config(
            model,
            model={"path": str(model), "dtype": dtype},
            learner={"zero_stage": zero_stage, "micro_tokens": 64, "optimizer_offload": offload},
            meta_rm={"zero_stage": 1},
        )
        update = PolicyUpdate(chosen, ranks, str(model))
        update.apply(first)
        update.engine.save(tmp_path / str(offload))
        found.append(update.apply(second))
        update.engine.close()
        update = PolicyUpdate(chosen, ranks, str(model))
        update.engine.load(tmp_path / str(offload))
        assert update.apply(second) == found[-1]
        update.engine.close()
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_after_a_skipped_step_all_goes_on_as_if_the_batch_had_never_been(
    model: Path, ranks: Ranks, zero_stage: int, dtype: str
) -> None:
    chosen = config(
        model,
        model={"path": str(model), "dtype": dtype},
        grpo={"warmup_steps": 4, "weight_decay": 0.1},
        learner={"zero_stage": zero_stage, "micro_tokens": 64},
    )
    found = []
    for skips in (False, True):
        update = PolicyUpdate(chosen, ranks, str(model))
        steps = []
        for step in range(3):
            if skips and step:
                skip(update, [experience(100 * step + number, step) for number in range(3)])
            steps.append(update.apply([experience(10 * step + number, step) for number in range(3)]))
        found.append((steps, update.engine.full_state(update.engine.module.model)))
        update.engine.close()
    (steps, state), (again, spared) = found
    assert again == steps
    assert all(torch.equal(state[name], spared[name]) for name in state)


def skip(update: PolicyUpdate, groups: list[ExperienceGroup]) -> None:
    """Apply a batch that gives one parameter a gradient that is not finite, in the second of its micro-batches."""
    before, calls = update.engine.full_state(update.engine.module.model), []

    def spoil(gradient: Tensor) -> Tensor:
        calls.append(1)
        return gradient * math.inf if len(calls) == 2 else gradient

    hook = next(iter(update.engine.module.parameters())).register_hook(spoil)
    with pytest.raises(NotFinite):
        update.apply(groups)
    hook.remove()
    assert len(calls) > 2
    after = update.engine.full_state(update.engine.module.model)
    assert all(torch.equal(before[name], after[name]) for name in before), "the weights are not touched"


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_what_is_saved_in_bfloat16_is_loaded_to_the_last_bit(
    model: Path, ranks: Ranks, tmp_path: Path, zero_stage: int
) -> None:
    chosen = config(model, model={"path": str(model), "dtype": "bfloat16"}, learner={"zero_stage": zero_stage})
    first, second = ([experience(number, 0) for number in numbers] for numbers in ((0, 1), (2, 3)))
    update = PolicyUpdate(chosen, ranks, str(model))
    update.apply(first)
    update.engine.save(tmp_path)
    expected = update.apply(second)
    update.engine.close()
    again = PolicyUpdate(chosen, ranks, str(model))
    again.engine.load(tmp_path)
    assert again.apply(second) == expected
    again.engine.close()


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
@pytest.mark.parametrize("save", [torch.save, lambda evil, path: path.write_bytes(pickle.dumps(evil, 2))])
def test_a_pickle_that_could_run_code_is_refused(
    ranks: Ranks, tmp_path: Path, zero_stage: int, save: Callable[..., object]
) -> None:
    sums = Engine(lambda: Sums(2, 1), settings(zero_stage=zero_stage), ranks)
    sums.save(tmp_path)
    files = sorted((tmp_path / "engine").glob("*.pt"))
    assert len(files) == (1 if zero_stage == 0 else 2)
    for file in files:
        written = file.read_bytes()
        save(Evil(tmp_path / "proof"), file)
        with pytest.raises(CheckpointError, match=r"engine holds more than an engine's state, which could run code"):
            sums.load(tmp_path)
        file.write_bytes(written)
    assert not (tmp_path / "proof").exists()
    pickle.loads(pickle.dumps(Evil(tmp_path / "proof")))
    assert (tmp_path / "proof").exists(), "read as DeepSpeed asks to, it would be there"
    sums.close()


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
