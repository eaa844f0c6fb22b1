"""Sealing and verifying a checkpoint with all ranks: each reads its share of the files, rank 0 decides.

write     files on disk ─▶ each rank syncs and seals its share ─▶ seals on rank 0 ─▶ record.json, rename
resume    newest record ─▶ each rank reads its share again     ─▶ one mismatch sets it aside, and the one before is tried
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from learner import checkpoint
from learner.checkpoint import Seal, Usable


class Group(Protocol):
    """What is needed of `learner.ranks.Ranks`."""

    rank: int
    world: int

    def broadcast_bytes(self, payload: bytes) -> bytes: ...
    def gather_bytes(self, payload: bytes) -> list[bytes]: ...


def seal(ranks: Group, path: Path) -> dict[str, Seal]:
    """Return the seals of all files of a checkpoint that is being written, each synced and read by one rank. A collective.

    Rank 0 calls it when all of the files are there; it alone lists them, since another node may see a folder late.
    """
    names = json.loads(ranks.broadcast_bytes(json.dumps(checkpoint.file_names(path)).encode() if ranks.rank == 0 else b""))
    shares = ranks.gather_bytes(json.dumps(checkpoint.seal(path, _share(ranks, names))).encode())
    return {name: sealed for share in shares for name, sealed in json.loads(share).items()}


def usable(ranks: Group, folder: Path) -> Usable | None:
    """As `checkpoint.usable`, each file read by one rank. A collective; the result is on rank 0 only."""
    if ranks.rank > 0:
        while request := ranks.broadcast_bytes(b""):
            _verify(ranks, folder, request)
        return None

    def verify(path: Path, files: Mapping[str, Seal]) -> str:
        return _verify(ranks, folder, ranks.broadcast_bytes(json.dumps([path.name, dict(files)]).encode()))

    newest = checkpoint.usable(folder, verify)
    ranks.broadcast_bytes(b"")  # nothing left to verify
    return newest


def _verify(ranks: Group, folder: Path, request: bytes) -> str:
    """Return what is wrong with a checkpoint, "" for nothing. A collective.

    Args:
        ranks: of the learner.
        folder: the checkpoints folder.
        request: the checkpoint's name and the seals of its files, from rank 0.
    """
    name, seals = json.loads(request)
    problem = checkpoint.mismatch(folder / name, {file: seals[file] for file in _share(ranks, seals)})
    problems = ranks.gather_bytes(problem.encode(errors="backslashreplace"))
    return next((text.decode() for text in problems if text), "")


def _share(ranks: Group, names: Iterable[str]) -> list[str]:
    """Return the files that this rank reads: every `world`-th, so that neighbours of one size go to different ranks."""
    return sorted(names)[ranks.rank :: ranks.world]
