"""What all learners do about full disks, corrupt checkpoints, and kills between a checkpoint and its acknowledgement."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from learner import base, checkpoint, models, seals
from learner.checkpoint import CheckpointError
from learner.deepspeed_engine import Engine
from learner.grpo_intake import Intake
from tests.learner.run_by_hand import Run, config
from tests.learner.test_base import trained


@pytest.mark.parametrize(("rank", "inside"), [(0, "model"), (2, "adapter")])
def test_the_files_beside_the_weights_are_in_the_checkpoint_and_sealed(run: Run, model: Path, rank: int, inside: str) -> None:
    learner, folder = run.grpo(config(model, learner={"lora_rank": rank}), beside={"judge.json": "{}"}), run.folder / "policy"
    learner.save()
    learner.close()
    newest = checkpoint.usable(folder)
    assert newest is not None
    assert (newest.path / inside / "judge.json").read_text() == "{}"
    (newest.path / inside / "judge.json").write_text("{ }")
    with pytest.raises(CheckpointError, match=rf"{inside}/judge\.json is not what was written"):
        checkpoint.usable(folder)


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
        (seals, "sync", _no_space),
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
    learner.save()
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
    again.save()
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
    learner.save()
    learner._intake.saved = lambda *_: None  # type: ignore[method-assign]
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
    learner._intake.saved = lambda *_: None  # type: ignore[method-assign]
    run.feed(2)
    trained(learner.step(5.0))
    learner.save()
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
    learner.save()
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
