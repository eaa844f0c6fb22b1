"""Whole checkpoints or none: written aside, synced to disk, then renamed (pure, standard library).

A folder ``version-000007`` under the checkpoints folder holds

    model/          Hugging Face format with tokenizer, for transformers and vLLM
    engine/         DeepSpeed's optimiser, schedule and partitioned weights, one file or more per rank
    record.json     version, how many ranks wrote it, and the entry ids whose gradient it contains (I3)

and exists only when all of it is on disk. With ranks on several nodes the checkpoints folder must be one that all of
them share.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

PREFIX = "version-"
UNFINISHED = ".unfinished-"
RECORD = "record.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a checkpoint says about itself.

    version: optimiser steps behind the weights. entries: ids of the stream entries trained since the checkpoint
    before (those of earlier ones were acknowledged with them). ranks, zero_stage: who can load its engine state.
    """

    version: int
    entries: tuple[str, ...]
    ranks: int
    zero_stage: int

    def require(self, *, ranks: int, zero_stage: int, folder: Path) -> None:
        """CheckpointError unless an engine of these settings can resume from it."""
        if (ranks, zero_stage) != (self.ranks, self.zero_stage):
            raise CheckpointError(
                f"{folder} was written by {self.ranks} ranks at ZeRO stage {self.zero_stage} and cannot be resumed by"
                f" {ranks} ranks at stage {zero_stage}: set ranks and zero_stage back, or start a new run from"
                f" {folder / 'model'}"
            )


def begin(folder: Path, version: int) -> Path:
    """An empty folder to write checkpoint ``version`` into; clears what an interrupted writer left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left)
    path = unfinished(folder, version)
    path.mkdir()
    return path


def unfinished(folder: Path, version: int) -> Path:
    """Where ``begin`` made it (for the other ranks)."""
    return folder / f"{UNFINISHED}{version:06d}"


def commit(folder: Path, record: Record, *, keep: int) -> Path:
    """Makes the folder of ``begin`` a checkpoint, in one step; then removes all but the newest ``keep``.

    After it returns, the checkpoint survives a power cut. Entries may be acknowledged only then (I3).
    """
    source, target = unfinished(folder, record.version), folder / f"{PREFIX}{record.version:06d}"
    (source / RECORD).write_text(json.dumps(asdict(record)))
    for root, _, names in os.walk(source):
        for path in (*(Path(root) / name for name in names), Path(root)):
            _sync(path)
    if target.exists():  # the same version again, after a resume from an older one
        _remove(target)
    source.rename(target)
    _sync(folder)
    for old in versions(folder)[:-keep]:
        _remove(folder / f"{PREFIX}{old:06d}")
    return target


def versions(folder: Path) -> list[int]:
    """Versions of the whole checkpoints in ``folder``, ascending."""
    return sorted(int(path.name.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*"))


def newest(folder: Path) -> tuple[Path, Record] | None:
    """The newest whole checkpoint, or None.

    Raises:
        CheckpointError: its record cannot be read.
    """
    found = versions(folder)
    if not found:
        return None
    path = folder / f"{PREFIX}{found[-1]:06d}"
    try:
        fields = json.loads((path / RECORD).read_text())
        record = Record(**{**fields, "entries": tuple(fields["entries"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path / RECORD}: {error}; remove the folder to resume from the one before") from error
    return path, record


def _remove(path: Path) -> None:
    """Renamed first, so that what is half removed is never taken for whole."""
    doomed = path.with_name(f"{UNFINISHED}removed-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
