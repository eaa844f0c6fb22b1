"""Whole checkpoints or none: written aside, synced to disk, then renamed (no torch).

A folder `version-000007` under the checkpoints folder holds

    model/          Hugging Face format with tokenizer, for transformers and vLLM
    adapter/        in its place where a policy of adapters is trained (peft's format)
    engine/         DeepSpeed's optimiser, schedule and partitioned weights, one file or more per rank; in the newest alone
    record.json     version, how many ranks wrote it, the entry ids whose gradient it contains (I3), and of every other
                    file its seal (`seals`)

and exists only when all of it is on disk. One that has changed since is set aside as `.corrupt-version-000007`. With
ranks on several nodes all of them must share the checkpoints folder. A link beside the folder may name the newest one; it never
names one that is gone. `checkpoint_writer` writes one, `verification` divides
the reading among the ranks.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from buffer.json_text import read_object
from learner.seals import HASH, Seal, mismatch, seal, sync

PREFIX = "version-"
UNFINISHED = ".unfinished-"
CORRUPT = ".corrupt-"
RECORD = "record.json"
ENGINE = "engine"
NFS_REMOVED = ".nfs"


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
    engine: bool = True
    """Whether the engine's state is there; of older checkpoints the weights alone are kept."""

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


def commit(
    folder: Path, record: Record, *, keep: int, seals: Mapping[str, Seal] | None = None, link: Path | None = None
) -> Path:
    """Make the folder of `begin` a checkpoint, in one step; then remove all but the newest `keep`, and older engines.

    After it returns, the checkpoint survives a power cut. Entries may be acknowledged only then (I3).

    Args:
        folder: the checkpoints folder.
        record: what the checkpoint is.
        keep: how many checkpoints stay.
        seals: of files that their writers have sealed; the others are sealed here.
        link: a symbolic link that is to name the newest checkpoint.
    """
    source, target = unfinished(folder, record.version), at(folder, record.version)
    sealed = dict(seals or {})
    _write_record(source, record, sealed | seal(source, [name for name in file_names(source) if name not in sealed]))
    for root, _, _ in os.walk(source):
        sync(Path(root))
    if target.exists():  # the same version again: the old one makes room at the last moment
        _mark_for_removal(target)
    source.rename(target)
    sync(folder)
    if link is not None:  # before the one that it names may go
        point(link, at(folder, versions(folder)[-1]))
    for old in versions(folder)[:-keep]:
        _mark_for_removal(at(folder, old))
    for old in versions(folder)[:-1]:
        _remove_engine(at(folder, old))
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
            _require_no_others(path, files, engine=record.engine)
            if problem := verify(path, files):
                raise CheckpointError(problem)
        except _NotSetAside:
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


class _NotSetAside(CheckpointError):
    """A checkpoint that is whole and yet cannot be used."""


def _require_no_others(path: Path, files: Mapping[str, Seal], *, engine: bool) -> None:
    """Raise unless the record names all files that could be loaded. Without `engine` nothing of that folder is: a kill may have
    come between the record without it and its removal."""
    others = [name for name in file_names(path) if name not in files and name != RECORD]
    if not engine:
        others = [name for name in others if PurePosixPath(name).parts[0] != ENGINE]
    if others:
        raise _NotSetAside(
            f"{path} holds {others[0]!r}, which its {RECORD} does not name: it was not written with the checkpoint; move it"
            " away, then resume"
        )


def _read(path: Path) -> tuple[Record, dict[str, Seal]]:
    """Return the record, and the seals of all other files."""
    try:
        fields: dict[str, Any] = read_object(path / RECORD)
        files, algorithm = dict(fields.pop("files")), fields.pop("hash", "CRC-32")
        for name, sealed in files.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r} is not in its folder")
            if not (isinstance(sealed, list) and len(sealed) == 2 and all(type(number) is int for number in sealed)):
                raise TypeError(f"the seal of {name!r} is not [size, checksum]")
        record = Record(**{**fields, "entries": tuple(fields["entries"])})
        if not all(type(number) is int for number in (record.version, record.ranks, record.zero_stage, record.lora_rank)):
            raise TypeError("version, ranks, zero_stage and lora_rank are integers")
        if type(record.engine) is not bool:
            raise TypeError("engine is true or false")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path / RECORD} cannot be read ({type(error).__name__}: {error})") from error
    if algorithm != HASH:
        raise _NotSetAside(
            f"{path} was written by another version of this project: its files are sealed by {algorithm}, here by {HASH}; go on"
            " with that version, or start a new run from its model"
        )
    return record, files


def _write_record(path: Path, record: Record, files: Mapping[str, Seal]) -> None:
    (path / RECORD).write_text(json.dumps(asdict(record) | {"hash": HASH, "files": files}))
    sync(path / RECORD)


def _remove_engine(path: Path) -> None:
    """Keep of an older checkpoint its weights alone. Its record changes first, in one step, and then names no engine."""
    try:
        record, files = _read(path)
    except CheckpointError:  # left for `usable` to set aside
        return
    if record.engine:
        others = {name: sealed for name, sealed in files.items() if PurePosixPath(name).parts[0] != ENGINE}
        if others.keys() == files.keys():
            return
        rewritten = path.with_name(f"{UNFINISHED}record-{path.name}")
        rewritten.mkdir(mode=0o700, exist_ok=True)
        _write_record(rewritten, replace(record, engine=False), others)
        (rewritten / RECORD).rename(path / RECORD)
        sync(path)
    if (path / ENGINE).exists():
        (path / ENGINE).rename(path.with_name(f"{UNFINISHED}engine-{path.name}"))


def _set_aside(path: Path) -> Path:
    target, number = path.with_name(f"{CORRUPT}{path.name}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{CORRUPT}{path.name}-{number}")
    return path.rename(target)


def point(link: Path, target: Path) -> None:
    """Let a link name a folder, in one step and relative to itself, so that a run's folder may be moved."""
    draft = link.with_name(f"{UNFINISHED}link-{link.name}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(os.path.relpath(target, link.parent))
    draft.rename(link)
    sync(link.parent)


def _mark_for_removal(path: Path) -> None:
    """Rename it before it is removed, so that what is half removed is never taken for whole."""
    path.rename(path.with_name(f"{UNFINISHED}removed-{path.name}"))
