"""What all learners do about losses that are not finite."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from learner import checkpoint, losses
from learner.experience import unpack
from learner.grpo import GRPOReport
from learner.meta_rm import MetaRMReport
from learner.sft import SFTLearner
from tests.learner.run_by_hand import Run, config, experience
from tests.learner.sft_by_hand import examples, write

Report = GRPOReport | MetaRMReport


def trained(report: Report | None) -> Report:
    assert report is not None
    return report


@contextmanager
def spoilt(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every loss NaN inside."""
    policy, meta = losses.policy_loss, losses.correctness_loss

    def bad_policy(*tokens: Any, **values: Any) -> losses.PolicyLoss:
        loss = policy(*tokens, **values)
        return replace(loss, loss=loss.loss * math.nan)

    with patch.context() as inside:
        inside.setattr(losses, "policy_loss", bad_policy)
        inside.setattr(losses, "correctness_loss", lambda *values: meta(*values) * math.nan)
        yield


def test_a_batch_that_is_not_finite_is_dropped_and_its_credit_refills(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(model, learner={"checkpoint_every": 1})
    learner = run.grpo(settings)
    first = learner._engine.full_state(learner._model)
    assert run.issue(100, limit=settings.credit) == [0, 1, 2, 3]
    for number in range(4):
        run.deliver(experience(number, 0))
    with spoilt(monkeypatch):
        assert learner.step(5.0) is None
    assert (learner.version, run.ledger.version(), [weights.version for weights in run.sink.published]) == (0, 0, [0])
    assert run.ledger.outcomes()["dropped"] == 2
    assert list(run.ledger.outstanding()) == [2, 3]
    assert run.pending("grpo") == 2
    assert checkpoint.versions(run.folder / "policy") == []
    assert all(torch.equal(first[name], now) for name, now in learner._engine.full_state(learner._model).items())
    assert run.issue(100, limit=settings.credit) == [4, 5]

    report = trained(learner.step(5.0))
    assert (report.version, report.groups) == (1, (2, 3))
    assert report.metrics["optim/skipped_steps"] == 1
    assert run.ledger.outcomes()["dropped"] == 2
    learner.close()


def test_too_many_in_a_row_end_the_run_with_the_batch_on_disk(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(model, grpo={"max_skips": 2})
    learner = run.grpo(settings)
    for _ in range(2):  # a good step in between: not in a row
        run.feed(2)
        with spoilt(monkeypatch):
            assert learner.step(5.0) is None
        run.feed(2)
        report = trained(learner.step(5.0))
    assert report.metrics["optim/skipped_steps"] == 2
    learner.save()
    with spoilt(monkeypatch):
        run.feed(2)
        assert learner.step(5.0) is None
        last = run.feed(2)
        with pytest.raises(FloatingPointError) as caught:
            learner.step(5.0)
    path = run.folder / "not-finite-2.msgpack"
    for words in ("2 batches in a row", "version 2", f"groups {last}", str(path), "grpo.max_skips", "resume the run"):
        assert words in str(caught.value)
    assert [group.group for group in unpack(path.read_bytes(), settings.max_entry_bytes)] == last
    learner.close()

    again = run.grpo(settings)
    assert again.version == 2
    assert trained(again.step(5.0)).groups == tuple(last), "the last batch was not lost"
    again.close()


def test_the_meta_rm_skips_too(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(model, grpo={"max_skips": 2}, learner={"checkpoint_every": 1})
    learner = run.meta_rm(settings)
    run.feed(2)
    with spoilt(monkeypatch):
        assert learner.step(5.0) is None
    assert learner.version == 1, "a skipped batch counts as a step"
    run.feed(2)
    report = trained(learner.step(5.0))
    assert report.metrics["meta_rm/loss"] == pytest.approx(math.log(2), abs=1e-6), "the weights are those of the start"
    learner.save()
    assert run.pending("meta-rm") == 0
    with spoilt(monkeypatch):
        run.feed(2)
        assert learner.step(5.0) is None
        last = run.feed(2)
        with pytest.raises(FloatingPointError, match=rf"groups \[{last[0]}, {last[1]}\].*not-finite-meta-rm-3\.msgpack"):
            learner.step(5.0)
    path = run.folder / "not-finite-meta-rm-3.msgpack"
    assert [group.group for group in unpack(path.read_bytes(), settings.max_entry_bytes)] == last
    learner.close()


def test_fine_tuning_continues_with_the_next_batch(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold_start = {"lr": 1e-2, "batch": 8, "steps": 9, "eval_every": 100}
    settings = config(model, cold_start=cold_start, grpo={"max_skips": 2})
    dataset, folder = write(tmp_path / "set.jsonl", examples(24, seed=1)), tmp_path / "checkpoints"
    learner = SFTLearner(settings, rank=0, world=1, model_path=str(model), dataset=dataset, checkpoints=folder)
    learner.start(*learner.rendezvous())
    good, loss = learner._update._loss, learner._update.loss(learner._heldout)
    monkeypatch.setattr(learner._update, "_loss", lambda batch, rows: good(batch, rows) * math.nan)
    report = learner.step()
    assert report is not None
    assert report.version == 1
    assert math.isnan(report.loss)
    monkeypatch.setattr(learner._update, "_loss", good)
    assert learner._update.loss(learner._heldout) == loss, "the weights did not change"
    report = learner.step()
    assert report is not None
    assert report.version == 2
    assert math.isfinite(report.loss)
    monkeypatch.setattr(learner._update, "_loss", lambda batch, rows: good(batch, rows) * math.nan)
    learner.step()
    with pytest.raises(FloatingPointError, match=r"2 batches in a row.*the examples of step 3 in .*set\.jsonl"):
        learner.step()
    learner.close()
