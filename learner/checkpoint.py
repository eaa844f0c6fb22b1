"""Whole checkpoints or none: written aside, synced to disk, then renamed (pure, standard library).

A folder `version-000007` under the checkpoints folder holds

    model/          Hugging Face format with tokenizer, for transformers and vLLM
    adapter/        in its place where a policy of adapters is trained (peft's format)
    engine/         DeepSpeed's optimiser, schedule and partitioned weights, one file or more per rank
    record.json     version, how many ranks wrote it, the entry ids whose gradient it contains (I3), and of every other
                    file its seal: size and checksum

and exists only when all of it is on disk. One that has changed since is set aside as `.corrupt-version-000007`. With
ranks on several nodes all of them must share the checkpoints folder. `sealing` divides the reading among the ranks.
"""

import json
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from buffer.json_text import read_object

PREFIX = "version-"
UNFINISHED = ".unfinished-"
CORRUPT = ".corrupt-"
RECORD = "record.json"
NFS_REMOVED = ".nfs"
CHUNK = 1 << 22  # bytes of a file that are read at a time

Seal = list[int]
"""[size in bytes, CRC-32] of a file."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names why and the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a checkpoint is."""

    version: int
    """Optimiser steps behind the weights."""
    entries: tuple[str, ...]
    """Ids of the stream entries trained since the checkpoint before; those of earlier ones were acknowledged with them."""
    ranks: int
    """Ranks that wrote the engine's state; as many can load it."""
    zero_stage: int
    """ZeRO stage of the engine's state; an engine of the same stage can load it."""
    lora_rank: int = 0
    """Rank of the adapters that were trained, 0 for all weights; an engine of the same rank can load it."""

    def require(self, *, ranks: int, zero_stage: int, lora_rank: int, folder: Path) -> None:
        """Raise CheckpointError unless an engine of these settings can resume from it."""
        if (ranks, zero_stage, lora_rank) != (self.ranks, self.zero_stage, self.lora_rank):
            raise CheckpointError(
                f"{folder} was written by {self.ranks} ranks at ZeRO stage {self.zero_stage} with learner.lora_rank"
                f" {self.lora_rank} and cannot be resumed by {ranks} ranks at stage {zero_stage} with {lora_rank}: set ranks,"
                " zero_stage and lora_rank back, or start a new run from its model"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Usable:
    """The newest checkpoint that is as it was written."""

    path: Path
    """Its folder."""
    record: Record
    """What it is."""
    corrupt: tuple[str, ...]
    """What became of the newer checkpoints, a sentence each."""


def make_folder(folder: Path) -> None:
    """Make a checkpoints folder and the one that it lies in, the user's alone, unless they are there."""
    for made in (folder.parent, folder):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)


def begin(folder: Path, version: int) -> Path:
    """Make an empty folder to write checkpoint `version` into; remove what an interrupted writer left behind."""
    make_folder(folder)
    clear(folder)
    path = unfinished(folder, version)
    path.mkdir(mode=0o700)
    return path


def clear(folder: Path) -> None:
    """Remove what an interrupted writer left behind, and what `_mark_for_removal` renamed."""
    for left in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left)


def unfinished(folder: Path, version: int) -> Path:
    """Return where `begin` makes the folder (for the other ranks)."""
    return folder / f"{UNFINISHED}{version:06d}"


def file_names(path: Path) -> list[str]:
    """Return whatever is under `path` and no folder, relative to it, sorted; what NFS keeps of removed files is left out."""
    names = []
    for root, folders, files in os.walk(path):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        names += [str((Path(root) / name).relative_to(path)) for name in (*files, *links) if not name.startswith(NFS_REMOVED)]
    return sorted(names)


def seal(path: Path, names: Iterable[str]) -> dict[str, Seal]:
    """Sync the files `names` under `path` to disk; return their seals."""
    seals = {}
    for name in names:
        _sync(path / name)
        seals[name] = _seal(path / name)
    return seals


def commit(folder: Path, record: Record, *, keep: int, seals: Mapping[str, Seal] | None = None) -> Path:
    """Make the folder of `begin` a checkpoint, in one step; then remove all but the newest `keep`.

    After it returns, the checkpoint survives a power cut. Entries may be acknowledged only then (I3).

    Args:
        folder: the checkpoints folder.
        record: what the checkpoint is.
        keep: how many checkpoints stay.
        seals: what `seal` returned for all its files; by default they are sealed here.
    """
    source, target = unfinished(folder, record.version), at(folder, record.version)
    files = seal(source, file_names(source)) if seals is None else dict(seals)
    (source / RECORD).write_text(json.dumps(asdict(record) | {"files": files}))
    _sync(source / RECORD)
    for root, _, _ in os.walk(source):
        _sync(Path(root))
    if target.exists():  # the same version again: the old one makes room at the last moment
        _mark_for_removal(target)
    source.rename(target)
    _sync(folder)
    for old in versions(folder)[:-keep]:
        _mark_for_removal(at(folder, old))
    clear(folder)
    return target


def at(folder: Path, version: int) -> Path:
    """Return where checkpoint `version` is, if there is one."""
    return folder / f"{PREFIX}{version:06d}"


def versions(folder: Path) -> list[int]:
    """Return the versions of the whole checkpoints in `folder`, ascending."""
    names = [path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*")]
    return sorted(int(name) for name in names if name.isdecimal())  # a copy that somebody made is not ours


def newest(folder: Path) -> tuple[Path, Record] | None:
    """Return the newest whole checkpoint, or None. Its files are not verified: to resume from it, see `usable`.

    Raises:
        CheckpointError: its record cannot be read.
    """
    known = versions(folder)
    return (at(folder, known[-1]), read(at(folder, known[-1]))) if known else None


def read(path: Path) -> Record:
    """Return the record of the checkpoint `path`.

    Raises:
        CheckpointError: it cannot be read.
    """
    return _read(path)[0]


def mismatch(path: Path, files: Mapping[str, Seal]) -> str:
    """Return what is wrong with the first file under `path` that is not as it was sealed, "" when all are."""
    for name, sealed in files.items():
        try:
            state = (path / name).lstat()
            if not stat.S_ISREG(state.st_mode):
                return f"{str(path / name)!r} is no regular file"
            if state.st_size != sealed[0]:  # it is not read: it may have no end
                return f"{path / name} is not what was written: {state.st_size} bytes, {sealed[0]} when written"
            current = _seal(path / name)
        except (OSError, ValueError) as error:  # ValueError: not a possible file name
            return f"{str(path / name)!r} cannot be read ({error})"
        if current != sealed:
            return f"{path / name} is not what was written: [size, CRC] {current}, {sealed} when written"
    return ""


def usable(folder: Path, verify: Callable[[Path, Mapping[str, Seal]], str] = mismatch) -> Usable | None:
    """Return the newest checkpoint whose files are all as they were written, or None where there is no checkpoint.

    Newer ones are set aside, never removed. Only the one process that resumes may call it: it changes the folder.

    Args:
        folder: the checkpoints folder.
        verify: as `mismatch`.

    Raises:
        CheckpointError: there were some, and not one of them can be used; or the newest holds a file that its record does not
            name, and that a loader might take for its own.
    """
    corrupt: list[str] = []
    for version in reversed(versions(folder)):
        path, lost = at(folder, version), "an unknown number of"
        try:
            record, files = _read(path)
            lost = str(len(record.entries))
            _require_no_others(path, files)
            if problem := verify(path, files):
                raise CheckpointError(problem)
        except _ForeignFile:
            raise
        except CheckpointError as error:
            aside = _set_aside(path)
            outcome = f"the gradient of its {lost} entries is lost, but for those that were not acknowledged yet"
            corrupt.append(f"{error}: set aside as {aside.name}; {outcome}")
        else:
            return Usable(path=path, record=record, corrupt=tuple(corrupt))
    if corrupt:
        raise CheckpointError(
            f"{folder}: none of its {len(corrupt)} checkpoints can be used ({'; '.join(corrupt)}): restore one under its"
            f" name ({PREFIX}...) from a copy, or start a new run"
        )
    return None


class _ForeignFile(CheckpointError):
    """A checkpoint holds a file that is not of it. Nothing of it is lost, so it is not set aside."""


def _require_no_others(path: Path, files: Mapping[str, Seal]) -> None:
    others = [name for name in file_names(path) if name not in files and name != RECORD]
    if others:
        raise _ForeignFile(
            f"{path} holds {others[0]!r}, which its {RECORD} does not name: it was not written with the checkpoint; move it"
            " away, then resume"
        )


def _read(path: Path) -> tuple[Record, dict[str, Seal]]:
    """Return the record, and the seals of all other files."""
    try:
        fields: dict[str, Any] = read_object(path / RECORD)
        files = dict(fields.pop("files"))
        for name, sealed in files.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r} is not in its folder")
            if not (isinstance(sealed, list) and len(sealed) == 2 and all(type(number) is int for number in sealed)):
                raise TypeError(f"the seal of {name!r} is not [size, checksum]")
        record = Record(**{**fields, "entries": tuple(fields["entries"])})
        if not all(type(number) is int for number in (record.version, record.ranks, record.zero_stage, record.lora_rank)):
            raise TypeError("version, ranks, zero_stage and lora_rank are integers")
        return record, files
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path / RECORD} cannot be read ({type(error).__name__}: {error})") from error


def _seal(path: Path) -> Seal:
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


def _mark_for_removal(path: Path) -> None:
    """Rename it before it is removed, so that what is half removed is never taken for whole."""
    path.rename(path.with_name(f"{UNFINISHED}removed-{path.name}"))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
