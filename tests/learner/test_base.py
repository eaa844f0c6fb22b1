"""What all learners do about losses that are not finite, full disks and corrupt checkpoints."""

import errno
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from learner import base, checkpoint, losses, models
from learner.checkpoint import CheckpointError
from learner.deepspeed_engine import Engine
from learner.experience import unpack
from learner.grpo import GRPOReport
from learner.grpo_intake import Intake
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

    def bad_policy(**values: Any) -> losses.PolicyLoss:
        loss = policy(**values)
        return replace(loss, loss=loss.loss * math.nan)

    with patch.context() as inside:
        inside.setattr(losses, "policy_loss", bad_policy)
        inside.setattr(losses, "correctness_loss", lambda *values: meta(*values) * math.nan)
        yield


# ---- losses that are not finite --------------------------------------------------------------------------------------


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
    assert report.metrics["groups/dropped"] == 2
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


# ---- full disks ------------------------------------------------------------------------------------------------------


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _torch_fails(*_: Any, **__: Any) -> None:  # as measured on a full disk, like the next one
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


def _safetensors_fail(*_: Any, **__: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("place", "name", "fails"),
    [
        (Engine, "save", _torch_fails),
        (models, "save_model", _safetensors_fail),
        (checkpoint, "begin", _no_space),
        (checkpoint, "_sync", _no_space),
        (Path, "write_text", _no_space),
    ],
)
def test_a_full_disk_is_named_and_costs_no_checkpoint(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, fails: Callable[..., None]
) -> None:
    learner, folder = run.grpo(config(model)), run.folder / "policy"
    run.feed(2)
    trained(learner.step(5.0))
    learner.save()
    run.feed(2)
    trained(learner.step(5.0))
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fails)
        with pytest.raises(CheckpointError, match=rf"version 2 does not fit .*{folder}.* GB are free.*resume the run"):
            learner.save()
    assert [path.name for path in folder.iterdir()] == ["version-000001"]
    newest = checkpoint.usable(folder)
    assert newest is not None
    assert newest.record.version == 1
    assert run.pending("grpo") == 2, "what no checkpoint contains is not acknowledged"
    learner.save()
    assert checkpoint.versions(folder) == [1, 2]
    assert run.pending("grpo") == 0
    learner.close()


def test_another_error_while_writing_is_left_as_it_is(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = run.grpo(config(model))

    def fails(*_: Any) -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(Engine, "save", fails)
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"):
        learner.save()
    learner.close()


# ---- corrupt checkpoints ---------------------------------------------------------------------------------------------


def test_a_corrupt_checkpoint_costs_its_gradient_and_no_more(run: Run, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = config(model, learner={"checkpoint_every": 1, "keep_checkpoints": 3})
    learner, folder = run.grpo(settings), run.folder / "policy"
    for _ in range(3):
        run.feed(2)
        trained(learner.step(5.0))
    late = run.feed(2)
    (unsampled,) = run.issue(1)
    learner.close()
    weights = folder / "version-000003" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with caplog.at_level(logging.WARNING, logger=base.__name__):
        again = run.grpo(settings)
    assert "model.safetensors" in caplog.text
    assert ".corrupt-version-000003" in caplog.text
    assert "gradient of its 2 entries" in caplog.text
    # the weights are those of version 2, but what was issued at 3 cannot be sampled unless that version is published
    assert again.version == run.ledger.version() == run.sink.published[-1].version == 3
    assert run.ledger.outstanding()[unsampled] == 3
    assert run.pending("grpo") == 0, "acknowledged once: what was trimmed cannot come back"
    report = trained(again.step(5.0))
    assert (report.version, report.groups) == (4, tuple(late))
    assert run.ledger.outstanding() == {unsampled: 3}
    assert run.ledger.outcomes()["trained"] == 8
    assert checkpoint.versions(folder) == [1, 2, 4]
    assert (folder / ".corrupt-version-000003").is_dir(), "kept for inspection"
    again.close()


def test_what_an_older_learner_claims_before_it_is_fenced_is_claimed_again(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.feed(3)
    older = run.other_consumer()
    older.claim(1, block_s=0)
    intake = Intake(config(model), run.address, 250)
    recover = intake._ledger.recover

    def just_before(*arguments: Any) -> tuple[int, int]:
        older.claim(1, block_s=0)
        return recover(*arguments)

    monkeypatch.setattr(intake._ledger, "recover", just_before)
    intake.recover(0, ())
    assert sorted(intake._ready) == [0, 1]
    assert [received.group.group for received in intake.wait(0, 5.0)] == [0, 1]
    intake.close()


def test_a_checkpoint_that_broke_before_it_was_acknowledged_costs_nothing(run: Run, model: Path) -> None:
    settings = config(model, learner={"checkpoint_every": 1})
    learner = run.grpo(settings)
    run.feed(2)
    trained(learner.step(5.0))
    learner._intake.saved = lambda: None  # type: ignore[method-assign]
    groups = run.feed(2)
    trained(learner.step(5.0))
    learner.close()
    (run.folder / "policy" / "version-000002" / "record.json").write_text("{")

    again = run.grpo(settings)
    assert again.version == 1
    report = trained(again.step(5.0))
    assert (report.version, report.groups) == (2, tuple(groups))
    assert run.ledger.outcomes()["trained"] == 4
    again.close()


# ---- killed between the rename of a checkpoint and the acknowledgement (GRPO: test_grpo.py) --------------------------


def test_the_meta_rm_never_trains_again_on_entries_of_its_checkpoint(run: Run, model: Path) -> None:
    settings = config(model, learner={"checkpoint_every": 1})
    learner = run.meta_rm(settings)
    learner._intake.saved = lambda: None  # type: ignore[method-assign]
    run.feed(2)
    trained(learner.step(5.0))
    assert run.pending("meta-rm") == 2
    learner.close()
    again = run.meta_rm(settings)
    assert (again.version, run.pending("meta-rm")) == (1, 0)
    assert again.step(0.1) is None
    again.close()


def test_the_meta_rm_writes_no_version_twice(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model, learner={"checkpoint_every": 1}))
    run.feed(2)
    trained(learner.step(5.0))
    written = (run.folder / "meta_rm" / "version-000001").stat().st_ino
    learner.save()
    assert (run.folder / "meta_rm" / "version-000001").stat().st_ino == written
    learner.close()


def test_what_was_left_unfinished_is_gone_after_a_start(run: Run, model: Path) -> None:
    learner, folder = run.grpo(config(model)), run.folder / "policy"
    learner.save()
    learner.close()
    (checkpoint.begin(folder, 7) / "half").write_text("half")
    again = run.grpo(config(model))
    assert [path.name for path in folder.iterdir()] == ["version-000000"]
    again.close()
