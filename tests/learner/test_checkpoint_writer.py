"""Checkpoints that are written beside training: whole only when each rank has written its part, and no error is lost."""

import errno
import gc
import json
import threading
import weakref
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from learner import checkpoint, checkpoint_writer, snapshot
from learner.checkpoint import CheckpointError, Record
from learner.checkpoint_writer import CheckpointWriter
from learner.ranks import Ranks
from tests.learner.run_by_hand import Run, config
from tests.learner.test_base import trained

# ---- ranks as writers of one process ---------------------------------------------------------------------------------


class Mail:
    """`Ranks.gather_beside` inside one process."""

    def __init__(self, rank: int, world: int, table: dict[str, bytes], there: threading.Condition) -> None:
        self.rank, self.world, self._table, self._there = rank, world, table, there

    def gather_beside(self, key: str, payload: bytes, timeout_s: float) -> list[bytes]:
        with self._there:
            self._table[f"{key}/{self.rank}"] = payload
            self._there.notify_all()
            names = [f"{key}/{rank}" for rank in range(self.world)] if self.rank == 0 else []
            for rank, name in enumerate(names):
                if not self._there.wait_for(lambda name=name: name in self._table, timeout_s):
                    raise TimeoutError(f"rank 0 waited {timeout_s:.1f} s for rank {rank}")
            return [self._table[name] for name in names]


def writers(folder: Path, world: int, timeout_s: float = 20) -> list[CheckpointWriter]:
    table, there = dict[str, bytes](), threading.Condition()
    return [CheckpointWriter(Mail(rank, world, table, there), folder, keep=2, timeout_s=timeout_s) for rank in range(world)]


def begin(writer: CheckpointWriter, folder: Path, rank: int, version: int = 1, world: int = 3) -> None:
    path = checkpoint.unfinished(folder, version) / "engine" / f"rank_{rank}"
    record = Record(version=version, entries=(), ranks=world, zero_stage=1)
    writer.start(record, {path: torch.full((9,), rank)}, {}, lambda folder: (folder / "model").write_text("weights"))


def test_it_is_whole_when_all_ranks_have_written_their_part(tmp_path: Path) -> None:
    (checkpoint.begin(tmp_path, 1) / "engine").mkdir()
    first, *others = writers(tmp_path, 3)
    begin(first, tmp_path, 0)
    begin(others[0], tmp_path, 1)
    assert others[0].wait() is not None, "other ranks wait for nobody"
    assert checkpoint.versions(tmp_path) == []
    begin(others[1], tmp_path, 2)
    done = first.wait()
    assert done is not None
    assert done.version == 1
    assert first.wait() is None, "once"
    names = ["engine/rank_0", "engine/rank_1", "engine/rank_2", "model"]
    assert sorted(json.loads((tmp_path / "version-000001" / "record.json").read_text())["files"]) == names
    assert checkpoint.usable(tmp_path) is not None


def test_what_fails_on_one_rank_is_raised_there_and_on_rank_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoint.begin(tmp_path, 1) / "engine").mkdir()
    first, second = writers(tmp_path, 2)
    write = checkpoint_writer.write_state

    def fails(state: Any, path: Path) -> Any:
        if path.name == "rank_1":
            raise OSError(errno.EIO, "Input/output error")
        return write(state, path)

    monkeypatch.setattr(checkpoint_writer, "write_state", fails)
    begin(second, tmp_path, 1, world=2)
    begin(first, tmp_path, 0, world=2)
    with pytest.raises(OSError, match="Input/output error"):
        second.wait()
    with pytest.raises(RuntimeError, match=r"rank 1 could not write its part of .*Input/output error"):
        first.wait()
    assert checkpoint.versions(tmp_path) == []


def test_a_rank_that_does_not_come_and_a_disk_that_hangs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoint.begin(tmp_path, 1) / "engine").mkdir()
    first, second = writers(tmp_path, 2, timeout_s=0.5)
    begin(first, tmp_path, 0, world=2)
    with pytest.raises(TimeoutError, match=r"for rank 1|for the checkpoint of version 1"):
        first.wait()
    release = threading.Event()
    monkeypatch.setattr(checkpoint_writer, "write_state", lambda state, path: release.wait(20) and [0, 0])
    begin(second, tmp_path, 1, world=2)
    with pytest.raises(TimeoutError, match=r"waited 0 s for the checkpoint of version 1 to be written .*waits.progress_s"):
        second.wait()
    release.set()
    assert second.wait() is not None


# ---- the store of the rendezvous -------------------------------------------------------------------------------------


def meeting(world: int) -> list[Ranks]:
    """Ranks that share a store alone: no process group is made."""
    stores = [TCPStore("127.0.0.1", 0, None, is_master=True)]
    stores += [TCPStore("127.0.0.1", stores[0].port, None, is_master=False) for _ in range(1, world)]
    ranks = [Ranks.__new__(Ranks) for _ in range(world)]
    for number, (rank, store) in enumerate(zip(ranks, stores, strict=True)):
        rank.rank, rank.world, rank._store = number, world, store
    return ranks


def test_rank_0_gathers_beside_a_connection_that_waits() -> None:
    first, second = meeting(2)
    waiting = threading.Thread(target=lambda: first._store.wait(["done"], timedelta(seconds=60)))
    waiting.start()
    assert second.gather_beside("checkpoint-1", b"two", 20) == []
    assert first.gather_beside("checkpoint-1", b"", 20) == [b"", b"two"]
    second._store.set("done", b"")
    waiting.join(60)
    assert not waiting.is_alive()
    with pytest.raises(TimeoutError, match=r"rank 0 waited 0 s for rank 1 and its checkpoint-2"):
        first.gather_beside("checkpoint-2", b"one", 0.2)


# ---- a learner that goes on ------------------------------------------------------------------------------------------


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing waits until the event is set."""
    disk, write = threading.Event(), checkpoint_writer.write_state

    def waits(state: Any, path: Path) -> Any:
        assert disk.wait(60)
        return write(state, path)

    monkeypatch.setattr(checkpoint_writer, "write_state", waits)
    yield disk
    disk.set()


@pytest.mark.parametrize(("zero_stage", "dtype"), [(0, "float32"), (1, "bfloat16"), (2, "float32"), (3, "float32")])
def test_the_steps_taken_meanwhile_are_not_in_it(
    run: Run, model: Path, slow_disk: threading.Event, zero_stage: int, dtype: str
) -> None:
    base = config(model, learner={"checkpoint_every": 2, "zero_stage": zero_stage})
    settings = base.model_copy(update={"model": base.model.model_copy(update={"dtype": dtype})})
    learner = run.grpo(settings)
    for _ in range(2):
        run.feed(2)
        trained(learner.step(5.0))
    run.feed(2)
    lost = trained(learner.step(5.0))  # while version 2 is being written
    assert checkpoint.versions(run.folder / "policy") == []
    assert run.pending("grpo") == 6, "nothing is acknowledged before it is on disk"
    slow_disk.set()
    learner._finish_writing()
    assert run.pending("grpo") == 2, "of version 3 nothing"
    learner.close()

    again = run.grpo(settings)
    assert again.version == run.ledger.version() == 2
    report = trained(again.step(5.0))
    assert (report.version, report.groups, report.loss) == (3, lost.groups, lost.loss)
    assert report.metrics["optim/grad_norm"] == lost.metrics["optim/grad_norm"]
    again.close()


def tensors_in(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for each in state.values() if isinstance(state, dict) else state:
            yield from tensors_in(each)


def test_the_copies_of_a_checkpoint_are_gone_when_it_is_whole(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies, on_cpu = list[weakref.ref[torch.Tensor]](), snapshot.on_cpu

    def noted(state: Any) -> Any:
        copied = on_cpu(state)
        copies.extend(map(weakref.ref, tensors_in(copied)))
        return copied

    monkeypatch.setattr(snapshot, "on_cpu", noted)
    learner = run.grpo(config(model, learner={"checkpoint_every": 1, "zero_stage": 1}))
    run.feed(2)
    trained(learner.step(5.0))
    learner._finish_writing()
    gc.collect()
    assert copies
    assert [copy for copy in copies if copy() is not None] == []
    learner.close()


def test_an_error_of_the_writer_ends_the_next_step(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = run.grpo(config(model, learner={"checkpoint_every": 1}))

    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_writer, "write_state", fails)
    run.feed(2)
    trained(learner.step(5.0))
    writing = learner._writer._job._thread
    assert writing is not None
    writing.join(60)
    with pytest.raises(CheckpointError, match="version 1 does not fit on the disk"):
        learner.step(5.0)
    assert run.pending("grpo") == 2
    assert list((run.folder / "policy").iterdir()) == []
    learner.close()


def test_without_room_for_a_copy_it_is_written_before_the_next_step(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapshot, "free_memory", lambda: 0)
    monkeypatch.setattr(snapshot, "on_cpu", lambda state: pytest.fail("it was copied"))
    learner = run.grpo(config(model, learner={"checkpoint_every": 1, "zero_stage": 1}))
    run.feed(2)
    trained(learner.step(5.0))
    learner.save()
    assert checkpoint.usable(run.folder / "policy") is not None
    assert "version 1 is written while training waits: the memory has no room for a copy" in caplog.text
    learner.close()


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_without_the_newest_it_goes_on_from_weights_alone(
    run: Run, model: Path, caplog: pytest.LogCaptureFixture, lora_rank: int
) -> None:
    settings = config(model, learner={"checkpoint_every": 1, "zero_stage": 1, "lora_rank": lora_rank})
    learner = run.grpo(settings)
    for _ in range(2):
        run.feed(2)
        trained(learner.step(5.0))
    learner.save()
    learner.close()
    (run.folder / "policy" / "version-000002" / "record.json").write_text("{")
    again = run.grpo(settings)
    assert "Adam's moments and the warm-up of the learning rate begin again" in caplog.text
    before = next(weights.arrays for weights in run.sink.published if weights.version == 1)
    after = run.sink.published[-1].arrays
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before), "the weights are those of version 1"
    run.feed(2)
    assert trained(again.step(5.0)).metrics["optim/lr"] == pytest.approx(5e-3), "the first of two steps of warm-up"
    again.close()


def test_the_fine_tuning_ends_behind_its_checkpoint(run: Run, model: Path, slow_disk: threading.Event, tmp_path: Path) -> None:
    from learner.sft import FINISHED
    from tests.learner.test_sft import examples, settings, started, write

    dataset = write(tmp_path / "data.jsonl", examples(24, seed=1))
    threading.Timer(1.0, slow_disk.set).start()
    learner = started(settings(model, eval_every=1, patience=1, steps=1), dataset, tmp_path / "sft")
    while learner.step() is not None:
        pass
    assert (tmp_path / "sft" / FINISHED).exists()
    assert checkpoint.versions(tmp_path / "sft") == [learner.status().best]
    learner.close()
