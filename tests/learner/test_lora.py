"""Learners that train LoRA adapters: the step against plain torch, what is published, checkpoints, and resuming from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from configs.schema import Config
from learner import checkpoint, models
from learner.adapters import adapted, merge, planned_shape
from learner.checkpoint import CheckpointError
from learner.grpo import GRPOLearner
from learner.meta_scorer import MetaScorer
from learner.policy_update import PolicyUpdate
from learner.ranks import Ranks
from learner.sft import SFTLearner
from tests.learner.run_by_hand import Run, config, experience
from tests.learner.sft_by_hand import examples, write
from tests.learner.test_base import trained
from tests.learner.test_deepspeed_engine import Plain

RANK = 4


def settings(model: Path, /, **learner: Any) -> Config:
    base = {"lora_rank": RANK, "zero_stage": 1, "micro_tokens": 64}
    return config(model, learner=base | learner, grpo={"warmup_steps": 4, "weight_decay": 0.1, "grad_clip": 0.5})


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    joined = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    yield joined
    joined.leave()


class PlainAdapters(Plain):
    """GRPO of adapters in plain torch; the reference is a second model."""

    def __init__(self, chosen: Config) -> None:
        super().__init__(chosen)
        adapted(self.policy, rank=RANK, seed=chosen.run.seed)
        kept = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(kept, lr=chosen.grpo.lr, weight_decay=chosen.grpo.weight_decay)


@pytest.mark.parametrize(
    "learner", [{"zero_stage": 0}, {"zero_stage": 1}, {"zero_stage": 2}, {"zero_stage": 1, "gradient_checkpointing": True}]
)
def test_three_steps_of_grpo_equal_plain_torch(model: Path, ranks: Ranks, learner: dict[str, Any]) -> None:
    chosen = settings(model, **learner)
    update, plain = PolicyUpdate(chosen, ranks, str(model)), PlainAdapters(chosen)
    for step in range(3):
        groups = [experience(10 * step + number, step) for number in range(3)]
        loss, metrics = update.apply(groups)
        expected_loss, expected_norm = plain.step(groups, 1e-2 * (step + 1) / 4)
        assert loss == pytest.approx(expected_loss, abs=1e-5)
        assert metrics["optim/grad_norm"] == pytest.approx(expected_norm, rel=1e-5)
        assert (metrics["loss/kl"] == 0.0) == (step == 0), "before the first step the policy is the reference, to the bit"
    state = update.engine.full_state(update.engine.module.model)
    start = dict(AutoModelForCausalLM.from_pretrained(model).named_parameters())
    for name, parameter in plain.policy.named_parameters():
        assert (state[name] - parameter).norm() <= 1e-4 * parameter.norm(), name
        if "lora_" not in name:
            assert torch.equal(state[name], start[name.replace(".base_layer.", ".")]), name
    assert update.engine.trained_state(update.engine.module.model).keys() == {name for name in state if "lora_" in name}
    update.engine.close()


def test_what_is_published_are_adapters_with_their_shape(run: Run, model: Path) -> None:
    learner = run.grpo(settings(model))
    run.feed(2)
    trained(learner.step(5.0))
    learner._publisher.wait()
    first, second = run.sink.published
    assert first.adapters == second.adapters == planned_shape(str(model), RANK)
    assert all("lora_" in name for name in second.arrays)
    whole = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(model).parameters())
    assert sum(array.size for array in second.arrays.values()) < whole / 4
    assert not any(first.arrays[name].any() for name in first.arrays if "lora_B" in name), "version 0 is the model itself"
    assert all(second.arrays[name].any() for name in second.arrays)
    assert first.probe is not None
    assert second.probe is not None
    assert first.probe.logprobs != second.probe.logprobs
    learner.close()


@pytest.mark.parametrize(("zero_stage", "dtype"), [(0, "float32"), (1, "float32"), (2, "float32"), (1, "bfloat16")])
def test_resumed_from_its_checkpoint_it_continues_as_if_never_stopped(
    run: Run, model: Path, zero_stage: int, dtype: str
) -> None:
    base = settings(model, checkpoint_every=2, zero_stage=zero_stage)
    chosen = base.model_copy(update={"model": base.model.model_copy(update={"dtype": dtype})})
    learner = run.grpo(chosen)
    for _ in range(2):
        run.feed(2)
        trained(learner.step(5.0))
    run.feed(2)
    lost = trained(learner.step(5.0))  # trained and published as version 3, but in no checkpoint
    learner.close()

    again = run.grpo(chosen)
    assert again.version == 2
    report = trained(again.step(5.0))
    assert (report.version, report.groups, report.loss) == (3, lost.groups, lost.loss)
    assert [report.metrics[name] for name in ("optim/grad_norm", "loss/kl")] == [
        lost.metrics[name] for name in ("optim/grad_norm", "loss/kl")
    ]
    again._publisher.wait()
    by_version = [weights.arrays for weights in run.sink.published if weights.version == 3]
    assert all(np.array_equal(by_version[0][name], by_version[1][name]) for name in by_version[0])
    again.close()


def test_a_checkpoint_holds_adapters_and_their_optimiser(run: Run, model: Path, tmp_path: Path) -> None:
    learner = run.grpo(settings(model))
    run.feed(2)
    trained(learner.step(5.0))
    learner.save()
    folder = checkpoint.at(run.folder / "policy", 1)
    kept = load_file(folder / "adapter" / "adapter_model.safetensors")
    learner._publisher.wait()
    published = run.sink.published[-1].arrays
    assert kept.keys() == published.keys()
    assert all(np.array_equal(kept[name].numpy(), published[name]) for name in kept)
    assert not (folder / "model").exists()
    (module,) = (folder / "engine").rglob("*model_states.pt")
    stored = torch.load(module, weights_only=False)["module"]
    assert len(stored) == len(kept), "nothing of the frozen weights"
    assert all("lora_" in name for name in stored)
    state, live = learner._whole_state(), learner._model
    merge(folder / "adapter", tmp_path / "whole", str(model))
    written = load_file(tmp_path / "whole" / "model.safetensors")
    assert all(torch.equal(written[name], state[name]) for name in written)
    assert not any(torch.equal(state[name], live.state_dict()[name.replace(".w", ".base_layer.w")]) for name in linear(state))
    learner.close()


def linear(state: dict[str, Tensor]) -> list[str]:
    return [name for name in state if name.endswith("_proj.weight")]


def test_another_rank_cannot_resume(run: Run, model: Path) -> None:
    learner = run.grpo(settings(model))
    run.feed(2)
    trained(learner.step(5.0))
    learner.save()
    learner.close()
    other = GRPOLearner(
        settings(model, lora_rank=8),
        rank=0,
        world=1,
        model_path=str(model),
        address=run.address,
        sink=run.sink,
        checkpoints=run.folder / "policy",
    )
    with pytest.raises(CheckpointError, match=r"with learner\.lora_rank 4 and cannot be resumed by .* with 8: set ranks"):
        other.start(*other.rendezvous())
    other._ranks.leave()


def test_the_meta_rm_keeps_a_whole_model_that_scores_like_the_adapters(run: Run, model: Path) -> None:
    chosen = settings(model, checkpoint_every=1)
    learner = run.meta_rm(chosen)
    for _ in range(3):
        run.feed(2)
        trained(learner.step(5.0))
    learner.save()
    path = str(checkpoint.at(run.folder / "meta_rm", 3) / "model")
    assert any("lora_" in name for name, _ in learner._model.named_parameters())
    rest = {name for name, parameter in learner._model.named_parameters() if parameter.requires_grad and "lora_" not in name}
    assert rest == {"score.weight"}
    groups = [((5, 6, 7), [(30, 31, 2), (40, 41, 42, 2)])]
    (found,) = MetaScorer(chosen, model_path=path).score(groups)
    live = MetaScorer.__new__(MetaScorer)
    live._limit, live._device, live._logits, live._share = 128, torch.device("cpu"), learner._engine.module.eval(), True
    (expected,) = live.score(groups)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, expected)) > 1e-3, "it has learnt something"
    learner.close()


def test_the_fine_tuning_keeps_whole_models_and_resumes_its_adapters(model: Path, tmp_path: Path) -> None:
    chosen = config(
        model,
        learner={"lora_rank": RANK, "micro_tokens": 128},
        cold_start={"lr": 1e-2, "batch": 8, "steps": 6, "eval_every": 2},
    )
    dataset = write(tmp_path / "set.jsonl", examples(24, seed=1))

    def start(folder: str) -> SFTLearner:
        learner = SFTLearner(chosen, rank=0, world=1, model_path=str(model), dataset=dataset, checkpoints=tmp_path / folder)
        learner.start(*learner.rendezvous())
        return learner

    learner, reports = start("whole"), []
    while (report := learner.step()) is not None:
        reports.append(report)
    learner.close()
    assert reports[-1].loss < reports[0].loss
    best = checkpoint.newest(tmp_path / "whole")
    assert best is not None
    assert best[1].version > 0
    policy = models.load_policy(str(best[0] / "model"), "float32", "cpu")
    assert not any("lora_" in name for name, _ in policy.named_parameters())
    assert (best[0] / "model" / "tokenizer.json").exists()

    cut = start("cut")
    for _ in range(3):
        cut.step()
    cut.close()
    again = start("cut")
    assert again.version == 2, "the best so far"
    resumed = []
    while (report := again.step()) is not None:
        resumed.append(report)
    again.close()
    assert [(report.loss, report.heldout_loss) for report in resumed] == [
        (report.loss, report.heldout_loss) for report in reports[2:]
    ]
