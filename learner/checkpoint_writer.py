"""Writes a checkpoint while training goes on: each rank its own files, rank 0 the model too.

states of the engine, copied ─▶ [ a thread of each rank: files, sealed as they are written ] ─▶ rank 0: all are there: commit
                                                          └─ an error, or too late ─▶ raised where the learner looks next
"""

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, cast

import torch
from safetensors import SafetensorError

from learner import checkpoint
from learner.background import BackgroundJob
from learner.checkpoint import CheckpointError, Record
from learner.seals import Seal, SealedFile

log = logging.getLogger(__name__)

# What the writers of safetensors and torch (last) report when the disk is full: neither raises an OSError.
DISK_FULL = ("No space left", "Disk quota exceeded", "inline_container")


class Group(Protocol):
    """What is needed of `learner.ranks.Ranks`."""

    rank: int
    world: int

    def gather_beside(self, key: str, payload: bytes, timeout_s: float) -> list[bytes]: ...


class CheckpointWriter:
    """One rank's part in writing a learner's checkpoints, one at a time. All methods are called by the learner's thread."""

    def __init__(self, ranks: Group, folder: Path, *, keep: int, timeout_s: float, link: Path | None = None) -> None:
        """Write nothing yet.

        Args:
            ranks: of the learner.
            folder: the checkpoints folder.
            keep: how many checkpoints stay.
            timeout_s: for all ranks to have written a checkpoint; the setting is `waits.progress_s`.
            link: see `checkpoint.commit`.
        """
        self._ranks, self._folder, self._keep, self._timeout_s, self._link = ranks, folder, keep, timeout_s, link
        self._job = BackgroundJob[Record](name="checkpoint-writer", timeout_s=timeout_s)
        self._count = 0

    def start(
        self, record: Record, states: Mapping[Path, Any], sealed: Mapping[str, Seal], write_model: Callable[[Path], None]
    ) -> None:
        """Begin to write the checkpoint that `checkpoint.begin` made a folder for. On all ranks, in the same order.

        Args:
            record: what it is.
            states: what `torch.save` writes by file; nothing of it changes any more.
            sealed: seals of the files that this rank has written already, by their names in the folder.
            write_model: writes the model into the folder, on rank 0.
        """
        self._count += 1
        job = partial(self._write, record, states, dict(sealed), write_model, f"checkpoint-{self._count}")
        self._job.start(f"the checkpoint of version {record.version} to be written to {self._folder}", job)

    def finished(self) -> Record | None:
        """Return what became whole on disk, once; None while it is being written, and where nothing was begun.

        Raises:
            CheckpointError: the disk is full; older checkpoints are untouched.
            Exception: whatever else kept a rank from writing its part.
        """
        return self._job.finished()

    def wait(self) -> Record | None:
        """Return as `finished`, when what was begun is written.

        Raises:
            TimeoutError: it took too long.
        """
        return self._job.wait()

    def abandon(self) -> None:
        """Wait for what was begun and forget it, as if the process had been killed behind it. For tests."""
        try:
            self.wait()
        except Exception as error:  # nobody looks at it
            log.warning("the last checkpoint was not written: %s", error)

    def _write(
        self, record: Record, states: Mapping[Path, Any], sealed: dict[str, Seal], write_model: Callable[[Path], None], key: str
    ) -> Record:
        folder = checkpoint.unfinished(self._folder, record.version)
        with full_disk_named(self._folder, record.version, self._ranks.rank):
            everywhere = self._write_files(states, sealed, write_model, key, folder)
            if self._ranks.rank == 0:
                checkpoint.commit(self._folder, record, keep=self._keep, seals=everywhere, link=self._link)
        return record

    def _write_files(
        self,
        states: Mapping[Path, Any],
        sealed: dict[str, Seal],
        write_model: Callable[[Path], None],
        key: str,
        folder: Path,
    ) -> dict[str, Seal]:
        """Write this rank's part; return the seals of all ranks on rank 0."""
        outcome: dict[str, Any] = {"error": "it ended"}
        try:
            for path, state in states.items():
                sealed[str(path.relative_to(folder))] = write_state(state, path)
            if self._ranks.rank == 0:
                write_model(folder)
            outcome = {"seals": sealed}
        except Exception as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
            raise
        finally:
            outcomes = self._ranks.gather_beside(key, json.dumps(outcome).encode(), self._timeout_s)
        everywhere = dict[str, Seal]()
        for rank, text in enumerate(outcomes):
            of_rank = json.loads(text)
            if "error" in of_rank:
                raise RuntimeError(f"rank {rank} could not write its part of {folder}: {of_rank['error']}")
            everywhere |= of_rank["seals"]
        return everywhere


def write_state(state: Any, path: Path) -> Seal:
    """Write what `torch.save` writes; return the seal of the file."""
    with SealedFile(path) as file:
        torch.save(state, cast("IO[bytes]", file))
    return file.seal


@contextmanager
def full_disk_named(folder: Path, version: int, rank: int) -> Iterator[None]:
    """Turn the errors of a full disk into a sentence, and remove what was written of the checkpoint of a version.

    Args:
        folder: the checkpoints folder.
        version: of the checkpoint.
        rank: of this process. Others than rank 0 leave the removal to it, now or at its next start: it may still write.

    Raises:
        CheckpointError: the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and not any(words in str(error) for words in DISK_FULL):
            raise
        if rank == 0:
            shutil.rmtree(checkpoint.unfinished(folder, version), ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free / 1e9
        raise CheckpointError(
            f"the checkpoint of version {version} does not fit on the disk of {folder} ({error}):"
            f" {free:.2f} GB are free there without it. Older checkpoints are as they were: free some space, or lower"
            " learner.keep_checkpoints, then resume the run"
        ) from error
