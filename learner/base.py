"""What all learners are made of: ranks that work together, a version, checkpoints, a clock."""

import errno
import logging
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError
from torch import Tensor

from buffer import files
from buffer.heartbeat import Heartbeat
from buffer.streams import Address
from configs.schema import Config
from learner import checkpoint, models, sealing
from learner.adapters import merged
from learner.checkpoint import CheckpointError
from learner.deepspeed_engine import Engine
from learner.ranks import Ranks

log = logging.getLogger(__name__)

# What the writers of safetensors and torch (last) report when the disk is full: neither raises an OSError.
DISK_FULL = ("No space left", "Disk quota exceeded", "inline_container")


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

    _engine: Engine
    _model: Any
    _ranks: Ranks

    def __init__(self, config: Config, *, rank: int, world: int, zero_stage: int, model_path: str, checkpoints: Path) -> None:
        self._config, self._rank, self._world, self._zero_stage = config, rank, world, zero_stage
        self._model_path, self._checkpoints = model_path, checkpoints
        self._keep = config.learner.keep_checkpoints
        self.version = self.skipped = self._skipped_in_a_row = 0
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
        self._engine.close()
        self._ranks.leave()

    def _load(self, host: str, port: int, gpu: int, make_update: Callable[[Config, Ranks, str], U]) -> U:
        """Join the ranks and load the model; return what updates it."""
        self._ranks = self._join(host, port, gpu)
        update = make_update(self._config, self._ranks, self._model_path)
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

    def _resume(self) -> tuple[str, ...]:
        """Load the newest usable checkpoint, if there is one; return the ids of the entries that it contains. A collective."""
        if self._rank == 0:
            checkpoint.clear(self._checkpoints)
        newest = sealing.usable(self._ranks, self._checkpoints)
        for sentence in newest.corrupt if newest else ():
            log.warning("%s", sentence)
        version = self._ranks.broadcast_bytes(str(newest.record.version).encode() if newest else b"")
        if not version:
            return ()
        path = checkpoint.at(self._checkpoints, int(version))
        record = checkpoint.read(path)
        lora_rank = self._config.learner.lora_rank
        record.require(ranks=self._world, zero_stage=self._zero_stage, lora_rank=lora_rank, folder=path)
        self._engine.load(path)
        self.version = record.version
        return record.entries

    def _write(self, state: dict[str, Tensor], entries: Sequence[str]) -> None:
        """Write a checkpoint of this version; it is whole on disk when this returns. A collective.

        Args:
            state: what `_write_model` writes, on rank 0.
            entries: ids of the entries trained since the checkpoint before, on rank 0.

        Raises:
            CheckpointError: the disk is full; older checkpoints are untouched.
        """
        folder = checkpoint.unfinished(self._checkpoints, self.version)
        with self._full_disk_named(folder):
            if self._rank == 0:
                checkpoint.begin(self._checkpoints, self.version)
            self._ranks.barrier()
            self._engine.save(folder)
            self._ranks.barrier()
            if self._rank == 0:
                self._write_model(state, folder)
            seals = sealing.seal(self._ranks, folder)
            if self._rank == 0:
                record = checkpoint.Record(
                    version=self.version,
                    entries=tuple(entries),
                    ranks=self._world,
                    zero_stage=self._zero_stage,
                    lora_rank=self._config.learner.lora_rank,
                )
                checkpoint.commit(self._checkpoints, record, keep=self._keep, seals=seals)
        self._ranks.barrier()

    def _whole_state(self) -> dict[str, Tensor]:
        """Return the whole weights of the model on rank 0, with its adapters merged into them. A collective."""
        return merged(self._engine.full_state(self._model), self._model)

    def _write_model(self, state: dict[str, Tensor], folder: Path) -> None:
        """Write the weights into a folder of a checkpoint, on rank 0."""
        models.save_model(self._model, state, self._model_path, folder / "model")

    @contextmanager
    def _full_disk_named(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full and not any(words in str(error) for words in DISK_FULL):
                raise
            if self._rank == 0:  # the other ranks leave it to rank 0, now or at its next start: it may still be writing
                shutil.rmtree(folder, ignore_errors=True)
            free = shutil.disk_usage(self._checkpoints.parent).free / 1e9
            raise CheckpointError(
                f"the checkpoint of version {self.version} does not fit on the disk of {self._checkpoints} ({error}):"
                f" {free:.2f} GB are free there without it. Older checkpoints are as they were: free some space, or lower"
                " learner.keep_checkpoints, then resume the run"
            ) from error


class Clock:
    """Measures where the time between two optimiser steps goes."""

    def __init__(self) -> None:
        self._last, self._waited = time.perf_counter(), 0.0

    def add_wait(self, seconds: float) -> None:
        """Count `seconds` of waiting for experience."""
        self._waited += seconds

    def metrics(self) -> dict[str, float]:
        """Return the seconds since the last call, and how many of them were spent waiting for experience."""
        now = time.perf_counter()
        period, waited = now - self._last, self._waited
        self._last, self._waited = now, 0.0
        return {
            "time/wait_for_experience_s": waited,
            "time/step_s": period,
            "idle/learner_ratio": waited / period,
        }
