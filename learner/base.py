"""What all learners are made of: ranks that work together, a version, checkpoints, a clock."""

import json
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from buffer import files
from buffer.heartbeat import Heartbeat
from buffer.streams import Address
from configs.schema import Config
from learner import checkpoint, models, snapshot, verification
from learner.adapters import merged
from learner.checkpoint import Record
from learner.checkpoint_writer import CheckpointWriter, full_disk_named, write_state
from learner.deepspeed_engine import Engine
from learner.policy_weights import FOLDER
from learner.ranks import Ranks
from learner.seals import Seal

log = logging.getLogger(__name__)


class Update(Protocol):
    """A learner's model and optimiser step, without streams or files."""

    engine: Engine


U = TypeVar("U", bound=Update)


class Learner:
    """One rank of a learner, one process. The methods of all ranks are called together, in the same order.

    Rank 0 alone talks to the buffer; the others receive each batch from it. Half of the attributes are set by `start`,
    which can only run once all ranks are there.

    Attributes:
        version: optimiser steps behind the weights.
        skipped: batches since the start whose loss or gradient was not finite.
    """

    latest = ""
    """Name of a link beside the checkpoints folder that names its newest checkpoint; "": there is none."""
    _engine: Engine
    _model: Any
    _ranks: Ranks
    _writer: CheckpointWriter

    def __init__(
        self,
        config: Config,
        *,
        rank: int,
        world: int,
        zero_stage: int,
        model_path: str,
        checkpoints: Path,
        beside: Mapping[str, str] | None = None,
    ) -> None:
        self._config, self._rank, self._world, self._zero_stage = config, rank, world, zero_stage
        self._beside = dict(beside or {})  # {name: text} of files that lie beside the weights in each model's folder
        self._model_path, self._checkpoints = model_path, checkpoints
        self._keep = config.learner.keep_checkpoints
        self.version = self.skipped = self._skipped_in_a_row = 0
        self._saved_version = -1  # of the checkpoint that was begun last, or resumed from; the same on all ranks
        self._listener: socket.socket | None = None

    def rendezvous(self, host: str = "127.0.0.1") -> tuple[str, int]:
        """Listen for the other ranks, on rank 0; return host and port.

        Args:
            host: an address of this node that the other ranks can reach.
        """
        self._listener = socket.create_server((host, 0))
        return host, int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Leave the other ranks; save nothing. For tests: in a run the process is killed."""
        self._writer.abandon()
        self._engine.close()
        self._ranks.leave()

    def _load(self, host: str, port: int, gpu: int, make_update: Callable[[Config, Ranks, str, Path | None], U]) -> U:
        """Join the ranks and load the model; return what updates it.

        Where the newest usable checkpoint has no engine any more, its weights are what `make_update` gets last.
        """
        self._ranks = self._join(host, port, gpu)
        timeout_s = self._config.waits.progress_s
        link = self._checkpoints.with_name(self.latest) if self.latest else None
        self._writer = CheckpointWriter(self._ranks, self._checkpoints, keep=self._keep, timeout_s=timeout_s, link=link)
        self._found = self._newest_usable()
        start = self._found[0] if self._found is not None and not self._found[1].engine else None
        update = make_update(self._config, self._ranks, self._model_path, start)
        self._engine, self._model = update.engine, update.engine.module.model
        if self._rank == 0:
            models.try_saving(self._model, self._model_path, self._checkpoints)
        return update

    def _join(self, host: str, port: int, gpu: int = 0) -> Ranks:
        config = self._config
        return Ranks(
            rank=self._rank,
            world=self._world,
            host=host,
            port=port,
            device=config.cluster.device,
            timeout_s=max(config.waits.start_s, config.waits.progress_s),
            gpu=gpu,
            listener=self._listener,
        )

    @property
    def _vocabulary(self) -> int:
        """Token ids of the model are below this."""
        return int(self._model.config.get_text_config().vocab_size)

    def _start_heartbeat(self, address: Address, name: str, stacks: str) -> Heartbeat:
        every_s, hang_s = self._config.heartbeat_interval_s, self._config.waits.hang_s
        heartbeat = Heartbeat(address, name, every_s=every_s, hang_s=hang_s, stacks=stacks)
        heartbeat.version = self.version
        return heartbeat

    def _advance(self) -> None:
        """Count a step that was taken."""
        self.version += 1
        self._skipped_in_a_row = 0

    def _skip(self, batch: str, *, replay: bytes = b"", name: str = "not-finite") -> None:
        """Count a batch that was not trained on (`NotFinite`). A collective.

        Args:
            batch: the batch, in words.
            replay: the batch for `experience.unpack`.
            name: of the file that `replay` is written to.

        Raises:
            FloatingPointError: it is the `grpo.max_skips`-th in a row; `replay` is on disk then, beside the checkpoints.
        """
        self.skipped += 1
        self._skipped_in_a_row += 1
        log.warning("the loss or gradient of %s is not finite at version %d: step skipped", batch, self.version)
        if self._skipped_in_a_row < self._config.grpo.max_skips:
            return
        path = self._checkpoints.with_name(f"{name}-{self.version}.msgpack")
        if replay and self._rank == 0:
            files.write(path, replay)
        self._ranks.barrier()  # the driver ends all ranks as soon as one of them raises
        kept = f"; the last of them is in {path} (learner.experience.unpack reads it)" if replay else ""
        raise FloatingPointError(
            f"{self._skipped_in_a_row} batches in a row had a loss or gradient that is not finite at version"
            f" {self.version} (grpo.max_skips), the last one of {batch}{kept}. No step was taken on them: look at what"
            " they have in common, lower the learning rate, then resume the run"
        )

    def _newest_usable(self) -> tuple[Path, Record] | None:
        """Return the newest usable checkpoint, if there is one. A collective."""
        if self._rank == 0:
            checkpoint.clear(self._checkpoints)
        newest = verification.usable(self._ranks, self._checkpoints)
        for sentence in newest.corrupt if newest else ():
            log.warning("%s", sentence)
        version = self._ranks.broadcast_bytes(str(newest.record.version).encode() if newest else b"")
        if not version:
            return None
        path = checkpoint.at(self._checkpoints, int(version))
        record = checkpoint.read(path)
        lora_rank = self._config.learner.lora_rank
        record.require(ranks=self._world, zero_stage=self._zero_stage, lora_rank=lora_rank, folder=path)
        return path, record

    def _resume(self) -> tuple[str, ...]:
        """Go on from the checkpoint that `_load` found, if there is one; return the ids of the entries that it contains. A
        collective."""
        if self._found is None:
            return ()
        path, record = self._found
        if record.engine:
            self._engine.load(path)
        else:
            what = "a newer checkpoint, which is lost, took the place of its optimiser's state"
            log.warning("%s: %s; Adam's moments and the warm-up of the learning rate begin again", path, what)
        self.version = self._saved_version = record.version
        return record.entries

    def _write(self, state: dict[str, Tensor], entries: Callable[[], Sequence[str]] = tuple) -> None:
        """Begin a checkpoint of this version; `_finish_writing` says when it is whole on disk. A collective.

        What the next step changes is copied first, and written in a thread. Where this machine has no room for a copy it is
        written before this returns.

        Args:
            state: what `_write_model` writes, on rank 0. Nobody changes it any more.
            entries: returns the ids of the entries that were trained and not acknowledged; called on rank 0, when the
                checkpoint before is whole and acknowledged.

        Raises:
            CheckpointError: the disk is full; older checkpoints are untouched.
        """
        self._finish_writing()
        folder = checkpoint.unfinished(self._checkpoints, self.version)
        states, sealed = dict[Path, Any](), dict[str, Seal]()

        def copy(state: Any, path: Path) -> None:
            states[path] = snapshot.on_cpu(state)

        def write(state: Any, path: Path) -> None:
            sealed[str(path.relative_to(folder))] = write_state(state, path)

        with full_disk_named(self._checkpoints, self.version, self._rank):
            if self._rank == 0:
                checkpoint.begin(self._checkpoints, self.version)
            self._ranks.barrier()
            self._engine.save(folder, copy if self._have_room() else write)
        record = Record(
            version=self.version,
            entries=tuple(entries() if self._rank == 0 else ()),
            ranks=self._world,
            zero_stage=self._zero_stage,
            lora_rank=self._config.learner.lora_rank,
        )

        def write_model(folder: Path) -> None:
            self._write_model(state, folder)
            self._write_beside(folder)

        self._writer.start(record, states, sealed, write_model)
        self._saved_version = self.version

    def _have_room(self) -> bool:
        """Return whether the machines of all ranks have room for a copy of what is saved. A collective."""
        own = json.dumps([socket.gethostname(), self._engine.state_bytes]).encode()
        needed = Counter[str]()
        for machine, size in map(json.loads, self._ranks.gather_bytes(own)):
            needed[machine] += size
        room = snapshot.have_room(needed)
        if not room:
            log.warning("version %d is written while training waits: the memory has no room for a copy", self.version)
        return all(answer == b"yes" for answer in self._ranks.gather_bytes(b"yes" if room else b"no"))

    def _finish_writing(self, *, wait: bool = True) -> None:
        """Take note of a checkpoint that was begun and is whole on disk by now (`_written`).

        Args:
            wait: until it is.

        Raises:
            CheckpointError: the disk is full; older checkpoints are untouched.
            Exception: whatever else kept this rank, or on rank 0 any rank, from writing its part.
        """
        try:
            record = self._writer.wait() if wait else self._writer.finished()
        except BaseException:
            self._saved_version = -1
            raise
        if record is not None:
            self._written(record)

    def _written(self, record: Record) -> None:
        """Called on all ranks when a checkpoint is whole on disk, as rank 0 knows; the others know of their own part."""

    def _whole_state(self) -> dict[str, Tensor]:
        """Return the whole weights of the model on rank 0, with its adapters merged into them. A collective."""
        return merged(self._engine.full_state(self._model), self._model)

    def _write_model(self, state: dict[str, Tensor], folder: Path) -> None:
        """Write the weights into a folder of a checkpoint, on rank 0."""
        models.save_model(self._model, state, self._model_path, folder / "model")

    def _write_beside(self, checkpoint: Path) -> None:
        """Write the files that lie beside the weights, wherever a checkpoint has them."""
        for folder in (checkpoint / "model", checkpoint / FOLDER):
            for name, text in self._beside.items() if folder.is_dir() else ():
                files.write(folder / name, text)


def begun_whole(make_update: Callable[[Config, Ranks, str], U]) -> Callable[[Config, Ranks, str, Path | None], U]:
    """Return what `Learner._load` takes, for a model that is kept whole: a checkpoint's model takes the place of the first."""

    def make(config: Config, ranks: Ranks, model_path: str, start: Path | None) -> U:
        return make_update(config, ranks, str(start / "model") if start else model_path)

    return make
