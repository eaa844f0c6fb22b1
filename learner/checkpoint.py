"""Whole checkpoints or none: written aside, synced to disk, then renamed (pure, standard library).

A folder ``version-000007`` under the checkpoints folder holds

    model/          Hugging Face format with tokenizer, for transformers and vLLM
    engine/         DeepSpeed's optimiser, schedule and partitioned weights, one file or more per rank
    record.json     version, how many ranks wrote it, the entry ids whose gradient it contains (I3), and of every other
                    file its size and checksum

and exists only when all of it is on disk. One that has changed since is set aside as ``.corrupt-version-000007``. With
ranks on several nodes the checkpoints folder must be one that all of them share.
"""

import json
import os
import shutil
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PREFIX = "version-"
UNFINISHED = ".unfinished-"
CORRUPT = ".corrupt-"
RECORD = "record.json"
CHUNK = 1 << 22
"""Bytes of a file that are read at a time."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The newest checkpoint that is as it was written. corrupt: what became of the newer ones, a sentence each."""

    path: Path
    record: Record
    corrupt: tuple[str, ...]


def begin(folder: Path, version: int) -> Path:
    """An empty folder to write checkpoint ``version`` into; clears what an interrupted writer left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    path = unfinished(folder, version)
    path.mkdir()
    return path


def clear(folder: Path) -> None:
    """Removes what an interrupted writer left behind, and what `_doom` marked."""
    for left in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left)


def unfinished(folder: Path, version: int) -> Path:
    """Where ``begin`` made it (for the other ranks)."""
    return folder / f"{UNFINISHED}{version:06d}"


def commit(folder: Path, record: Record, *, keep: int) -> Path:
    """Makes the folder of ``begin`` a checkpoint, in one step; then removes all but the newest ``keep``.

    After it returns, the checkpoint survives a power cut. Entries may be acknowledged only then (I3).
    """
    source, target = unfinished(folder, record.version), at(folder, record.version)
    files = {str(path.relative_to(source)): _sealed(path) for path in source.rglob("*") if path.is_file()}
    (source / RECORD).write_text(json.dumps(asdict(record) | {"files": files}))
    for root, _, names in os.walk(source):
        for path in (*(Path(root) / name for name in names), Path(root)):
            _sync(path)
    if target.exists():  # the same version again: the old one makes room at the last moment
        _doom(target)
    source.rename(target)
    _sync(folder)
    for old in versions(folder)[:-keep]:
        _doom(at(folder, old))
    clear(folder)
    return target


def at(folder: Path, version: int) -> Path:
    """Where checkpoint ``version`` is, if there is one."""
    return folder / f"{PREFIX}{version:06d}"


def versions(folder: Path) -> list[int]:
    """Versions of the whole checkpoints in ``folder``, ascending."""
    names = [path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*")]
    return sorted(int(name) for name in names if name.isdecimal())  # a copy that somebody made is none of ours


def newest(folder: Path) -> tuple[Path, Record] | None:
    """The newest whole checkpoint, or None; for those who only look: its files are not read (see ``usable``).

    Raises:
        CheckpointError: its record cannot be read.
    """
    found = versions(folder)
    return (at(folder, found[-1]), read(at(folder, found[-1]))) if found else None


def read(path: Path) -> Record:
    """The record of the checkpoint ``path``. CheckpointError: it cannot be read."""
    return _read(path)[0]


def usable(folder: Path) -> Found | None:
    """The newest checkpoint whose files are all as they were written, or None where there is none.

    Newer ones are set aside, never removed. For the one process that resumes: it changes the folder.

    Raises:
        CheckpointError: there were some, and not one of them can be used.
    """
    corrupt: list[str] = []
    for version in reversed(versions(folder)):
        path, lost = at(folder, version), "an unknown number of"
        try:
            record, files = _read(path)
            lost = str(len(record.entries))
            _verify(path, files)
        except CheckpointError as error:
            aside = _set_aside(path)
            outcome = f"the gradient of its {lost} entries is lost, but for those that were not acknowledged yet"
            corrupt.append(f"{error}: set aside as {aside.name}; {outcome}")
        else:
            return Found(path=path, record=record, corrupt=tuple(corrupt))
    if corrupt:
        raise CheckpointError(
            f"{folder}: none of its {len(corrupt)} checkpoints can be used ({'; '.join(corrupt)}): unshuffle one under its"
            f" name ({PREFIX}...) from a copy, or start a new run"
        )
    return None


def _read(path: Path) -> tuple[Record, dict[str, list[int]]]:
    """The record, and [size, checksum] of every other file."""
    try:
        fields: dict[str, Any] = json.loads((path / RECORD).read_text())
        files = dict(fields.pop("files"))
        record = Record(**{**fields, "entries": tuple(fields["entries"])})
        if not all(type(number) is int for number in (record.version, record.ranks, record.zero_stage)):
            raise TypeError("version, ranks and zero_stage are integers")
        return record, files
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path / RECORD} cannot be read ({type(error).__name__}: {error})") from error


def _verify(path: Path, files: dict[str, list[int]]) -> None:
    """CheckpointError naming the first file that is not as it was written."""
    for name, expected in files.items():
        try:
            found = _sealed(path / name)
        except (OSError, ValueError) as error:  # ValueError: no name of a file
            raise CheckpointError(f"{str(path / name)!r} cannot be read ({error})") from error
        if found != expected:
            raise CheckpointError(f"{path / name} is not what was written: [size, CRC] {found}, {expected} when written")


def _sealed(path: Path) -> list[int]:
    """[size in bytes, CRC-32] of a file."""
    size = checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
    return [size, checksum]


def _set_aside(path: Path) -> Path:
    target, number = path.with_name(f"{CORRUPT}{path.name}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{CORRUPT}{path.name}-{number}")
    return path.rename(target)


def _doom(path: Path) -> None:
    """Renamed before it is removed, so that what is half removed is never taken for whole."""
    path.rename(path.with_name(f"{UNFINISHED}removed-{path.name}"))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
