"""What all learners are made of: ranks that work together, a version, checkpoints, a clock."""

import errno
import logging
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from buffer.heartbeat import Heartbeat
from buffer.streams import Address
from configs.schema import Config
from learner import checkpoint, models
from learner.checkpoint import CheckpointError
from learner.deepspeed_engine import Engine, Ranks

log = logging.getLogger(__name__)

DISK_FULL = ("No space left", "Disk quota exceeded", "inline_container")
"""What the writers of safetensors and torch (last) say when the disk is full: neither raises an OSError."""


class Learner:
    """One rank of a learner, one process. The methods of all ranks are called together, in the same order.

    Rank 0 alone talks to the buffer; the others receive each batch from it. ``version`` counts optimiser steps, and
    ``skipped`` the batches since the start whose loss or gradient was not finite.
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
        """Where rank 0 listens from now on; host: an address of its node that the other ranks can reach."""
        self._listener = socket.create_server((host, 0))
        return host, int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Leaves the other ranks; saves nothing."""
        self._engine.close()
        self._ranks.leave()

    def _beat(self, address: Address, name: str, stacks: str) -> Heartbeat:
        every_s, hang_s = self._config.heartbeat_interval_s, self._config.waits.hang_s
        heartbeat = Heartbeat(address, name, every_s=every_s, hang_s=hang_s, stacks=stacks)
        heartbeat.version = self.version
        return heartbeat

    def _join(self, host: str, port: int) -> Ranks:
        config = self._config
        return Ranks(
            rank=self._rank,
            world=self._world,
            host=host,
            port=port,
            device=config.cluster.device,
            timeout_s=max(config.waits.start_s, config.waits.progress_s),
            listener=self._listener,
        )

    def _advance(self) -> None:
        """A step was taken."""
        self.version += 1
        self._skipped_in_a_row = 0

    def _skip(self, what: str, *, replay: bytes = b"", name: str = "not-finite") -> None:
        """A batch was not trained on (``NotFinite``): counts it. A collective.

        what: the batch, in words. replay: the batch for ``experience.unpack``.

        Raises:
            FloatingPointError: it is the `grpo.max_skips`-th in a row; ``replay`` is on disk then, beside the checkpoints.
        """
        self.skipped += 1
        self._skipped_in_a_row += 1
        log.warning("the loss or gradient of %s is not finite at version %d: step skipped", what, self.version)
        if self._skipped_in_a_row < self._config.grpo.max_skips:
            return
        path = self._checkpoints.with_name(f"{name}-{self.version}.msgpack")
        if replay and self._rank == 0:
            path.write_bytes(replay)
        self._ranks.barrier()  # a driver that hears one rank's error ends them all
        kept = f"; the last of them is in {path} (learner.experience.unpack reads it)" if replay else ""
        raise FloatingPointError(
            f"{self._skipped_in_a_row} batches in a row had a loss or gradient that is not finite at version"
            f" {self.version} (grpo.max_skips), the last one of {what}{kept}. No step was taken on them: look at what"
            " they have in common, lower the learning rate, then resume the run"
        )

    def _resume(self) -> tuple[str, ...]:
        """Loads the newest checkpoint that can be used, if there is one; the ids of the entries that it contains."""
        version = b""
        if self._rank == 0:
            checkpoint.clear(self._checkpoints)
            found = checkpoint.usable(self._checkpoints)
            for sentence in found.corrupt if found else ():
                log.warning("%s", sentence)
            version = str(found.record.version).encode() if found else b""
        version = self._ranks.broadcast_bytes(version)
        if not version:
            return ()
        path = checkpoint.at(self._checkpoints, int(version))
        record = checkpoint.read(path)
        record.require(ranks=self._world, zero_stage=self._zero_stage, folder=path)
        self._engine.load(path)
        self.version = record.version
        return record.entries

    def _write(self, state: dict[str, Tensor], entries: Sequence[str]) -> None:
        """A checkpoint of this version, whole on disk when it returns; state and entries count on rank 0.

        CheckpointError when the disk is full; older checkpoints are untouched then.
        """
        folder = checkpoint.unfinished(self._checkpoints, self.version)
        with self._full_disk_named(folder):
            if self._rank == 0:
                checkpoint.begin(self._checkpoints, self.version)
            self._ranks.barrier()
            self._engine.save(folder)
            self._ranks.barrier()
            if self._rank == 0:
                models.save_model(self._model, state, self._model_path, folder / "model")
                record = checkpoint.Record(
                    version=self.version, entries=tuple(entries), ranks=self._world, zero_stage=self._zero_stage
                )
                checkpoint.commit(self._checkpoints, record, keep=self._keep)
        self._ranks.barrier()

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
    """Where the time between two optimiser steps goes."""

    def __init__(self) -> None:
        self._ended, self._waited = time.perf_counter(), 0.0

    def waited(self, seconds: float) -> None:
        self._waited += seconds

    def metrics(self) -> dict[str, float]:
        """Seconds since the last call, and how many of them were spent waiting for experience."""
        now = time.perf_counter()
        period, waited = now - self._ended, self._waited
        self._ended, self._waited = now, 0.0
        return {
            "time/wait_for_experience_s": waited,
            "time/step_s": period,
            "idle/learner_ratio": waited / period,
        }
