"""Supervised fine-tuning: its step against plain torch, then the learner end to end on a random model."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs.schema import Config
from learner import checkpoint
from learner.ranks import Ranks
from learner.sft import FINISHED, SFTLearner, SFTReport
from learner.sft_examples import Example, split
from learner.supervised_update import SupervisedUpdate
from tests.learner.run_by_hand import config
from tests.learner.sft_by_hand import examples, write


def settings(model: Path, /, *, zero_stage: int = 0, micro_tokens: int = 128, **cold_start: Any) -> Config:
    base: dict[str, Any] = {"lr": 1e-2, "batch": 8, "steps": 30, "eval_every": 2, "patience": 3}
    learner = {"zero_stage": zero_stage, "micro_tokens": micro_tokens}
    return config(model, learner=learner, cold_start=base | cold_start)


# ---- the update ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    joined = Ranks(rank=0, world=1, host="127.0.0.1", port=0, device="cpu", timeout_s=60)
    yield joined
    joined.leave()


class Plain:
    """Fine-tuning with Hugging Face's own loss: padded rows; prompt and padding have no target (-100)."""

    def __init__(self, model: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
        self._optimiser = torch.optim.AdamW(self.model.parameters(), weight_decay=0.0)

    def loss(self, batch: list[Example]) -> Tensor:
        width = max(len(example.prompt_ids) + len(example.completion_ids) for example in batch)
        ids, labels = torch.zeros(len(batch), width, dtype=torch.long), torch.full((len(batch), width), -100)
        for i, example in enumerate(batch):
            start, end = len(example.prompt_ids), len(example.prompt_ids) + len(example.completion_ids)
            ids[i, :end] = torch.tensor(example.prompt_ids + example.completion_ids)
            labels[i, start:end] = torch.tensor(example.completion_ids)
        loss: Tensor = self.model(ids, labels=labels).loss
        return loss

    def step(self, batch: list[Example], lr: float) -> tuple[float, float]:
        """Return loss and gradient norm of one optimiser step."""
        loss = self.loss(batch)
        self._optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.param_groups[0]["lr"] = lr
        self._optimiser.step()
        return loss.item(), norm.item()


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_loss_and_step_are_those_of_plain_torch(model: Path, ranks: Ranks, zero_stage: int) -> None:
    update = SupervisedUpdate(settings(model, zero_stage=zero_stage, lr=1e-3, warmup_steps=2), ranks, str(model))
    plain, heldout = Plain(model), examples(5, seed=9)
    for step, lr in enumerate((5e-4, 1e-3, 1e-3)):
        batch = examples(7, seed=step)
        measured = update.loss(batch)
        metrics = update.apply(batch)
        loss, norm = plain.step(batch, lr)
        assert metrics == pytest.approx({"sft/loss": loss, "sft/grad_norm": norm, "sft/lr": lr}, rel=1e-5)
        assert measured == metrics["sft/loss"], "the same computation, without a gradient"
        with torch.no_grad():
            assert update.loss(heldout) == pytest.approx(plain.loss(heldout).item(), rel=1e-5)
    update.engine.close()


def test_a_prompt_is_a_condition_and_never_a_target(model: Path, ranks: Ranks) -> None:
    """The final hidden states have a gradient where a completion token comes next, and nowhere else."""
    update = SupervisedUpdate(settings(model), ranks, str(model))
    states: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        states.append(output.last_hidden_state)

    update.engine.module.model.base_model.register_forward_hook(keep)
    update.apply([Example(prompt_ids=(5, 6, 7, 8), completion_ids=(9, 10, 2), preference="p")])
    assert states[0].grad is not None
    assert states[0].grad.abs().sum(-1).ne(0).tolist() == [[False, False, False, True, True, True, False]]
    update.engine.close()


def test_a_batch_is_the_sum_of_its_micro_batches_whatever_its_order(model: Path, ranks: Ranks) -> None:
    batch, results = examples(9, seed=0), []
    for micro_tokens, order in ((64, 1), (4096, 1), (64, -1)):
        update = SupervisedUpdate(settings(model, micro_tokens=micro_tokens), ranks, str(model))
        assert (len(update._pack(batch).micro_batches) > 3) == (micro_tokens == 64)
        metrics = [update.apply(batch[::order]) for _ in range(2)]
        results.append([value for step in metrics for value in step.values()])
        update.engine.close()
    np.testing.assert_allclose(results[1:], results[:1] * 2, rtol=1e-5)


# ---- the learner -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 random examples: nothing but the frequencies of tokens carries over to those held out."""
    return write(tmp_path_factory.mktemp("sft") / "set.jsonl", examples(24, seed=1))


def started(settings: Config, dataset: Path, folder: Path) -> SFTLearner:
    learner = SFTLearner(settings, rank=0, world=1, model_path=settings.model.path, dataset=dataset, checkpoints=folder)
    learner.start(*learner.rendezvous())
    return learner


def steps(learner: SFTLearner, count: int = 1000) -> list[SFTReport]:
    """Return the reports of up to `count` steps; close the learner."""
    reports = []
    while len(reports) < count and (report := learner.step()) is not None:
        reports.append(report)
    learner.close()
    return reports


def heldout_losses(reports: list[SFTReport]) -> dict[int, float]:
    return {report.version: report.heldout_loss for report in reports if report.heldout_loss is not None}


def test_it_stops_when_it_overfits_and_keeps_the_best(model: Path, dataset: Path, tmp_path: Path) -> None:
    learner = started(settings(model, eval_every=2, patience=3, steps=200), dataset, tmp_path)
    untrained = learner.status()
    assert (untrained.version, untrained.best) == (0, 0)
    assert len(learner._training) + len(learner._heldout) == 24
    assert not (tmp_path / FINISHED).exists()
    learner._finish_writing()
    assert checkpoint.versions(tmp_path) == [0]
    reports = steps(learner)

    losses = {0: untrained.best_loss} | heldout_losses(reports)
    best = min(losses, key=lambda version: losses[version])
    assert 0 < best < 100, "the test needs a model that improves first and overfits then"
    assert [report.version for report in reports] == list(range(1, best + 7)), "three evaluations, every second step"
    assert reports[-1].best == best
    assert reports[-1].loss < reports[0].loss
    assert learner.step() is None
    assert json.loads((tmp_path / FINISHED).read_text()) == asdict(learner.status())
    assert learner.status().best_loss == losses[best]

    assert checkpoint.versions(tmp_path) == [best]
    saved = Plain(tmp_path / f"version-{best:06d}" / "model")
    data = examples(24, seed=1)
    heldout = [data[index] for index in split([example.preference for example in data], seed=0)[1]]
    assert saved.loss(heldout).item() == pytest.approx(losses[best], rel=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / f"version-{best:06d}" / "model").eos_token == "<|im_end|>"


def test_the_report_of_a_step(model: Path, dataset: Path, tmp_path: Path) -> None:
    learner = started(settings(model, batch=5, steps=2, eval_every=100), dataset, tmp_path)
    batches: list[list[Example]] = []
    apply = learner._update.apply

    def recorded(batch: list[Example]) -> dict[str, float]:
        assert not (tmp_path / FINISHED).exists()
        batches.append(batch)
        return apply(batch)

    learner._update.apply = recorded  # type: ignore[method-assign,assignment]
    first, second = steps(learner)
    assert [len(batch) for batch in batches] == [5, 5]
    assert first.heldout_loss is None
    assert first.metrics.keys() == {"sft/loss", "sft/lr", "sft/grad_norm"}
    assert first.metrics["sft/loss"] == first.loss
    assert (tmp_path / FINISHED).exists()
    assert second.metrics["sft/heldout_loss"] == second.heldout_loss, "the last step is always evaluated"


def test_if_nothing_improves_the_untrained_model_is_the_result(model: Path, dataset: Path, tmp_path: Path) -> None:
    reports = steps(started(settings(model, lr=3.0, eval_every=1, patience=2), dataset, tmp_path))
    assert [(report.version, report.best) for report in reports] == [(1, 0), (2, 0)]
    assert (tmp_path / FINISHED).exists()
    assert checkpoint.versions(tmp_path) == [0]
    kept: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "version-000000" / "model")
    start: Any = AutoModelForCausalLM.from_pretrained(model)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), start.parameters(), strict=True))


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_killed_anywhere_it_ends_as_if_never_stopped(model: Path, dataset: Path, tmp_path: Path, zero_stage: int) -> None:
    config = settings(model, zero_stage=zero_stage, warmup_steps=4, patience=2, steps=200)
    whole = steps(started(config, dataset, tmp_path / "whole"))
    best = whole[-1].best
    folder = tmp_path / "killed"
    for end in (1, 3, best + 3):  # before the first evaluation, between two, and when only one more is left
        again = started(config, dataset, folder)
        begun = again.version
        assert begun == again.status().best, "it resumes from the best version"
        assert steps(again, end - begun) == whole[begun:end], "to the last bit"
        assert not (folder / FINISHED).exists()
    last = steps(started(config, dataset, folder))
    assert last == whole[best:]
    assert checkpoint.versions(folder) == checkpoint.versions(tmp_path / "whole") == [best]


def test_finished_is_finished(model: Path, dataset: Path, tmp_path: Path) -> None:
    config = settings(model, steps=3)
    whole = steps(started(config, dataset, tmp_path))
    assert whole[-1].best == 3
    (tmp_path / FINISHED).unlink()  # killed between the last checkpoint and the end
    for _ in range(2):
        again = started(config, dataset, tmp_path)
        status = again.status()
        assert (status.version, status.best) == (3, 3)
        assert status.best_loss == whole[-1].heldout_loss
        assert steps(again) == []
        assert (tmp_path / FINISHED).exists()
    more = started(settings(model, steps=100), dataset, tmp_path)
    assert steps(more) == [], "finished, whatever the configuration is now"


def test_a_data_set_that_the_model_cannot_read_is_refused(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", examples(3, seed=0, vocabulary=10**6))
    learner = SFTLearner(settings(model), rank=0, world=1, model_path=str(model), dataset=path, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"set\.jsonl:1: field '.*': token id \d+ is not in the vocabulary"):
        learner.start(*learner.rendezvous())
    learner.close()
