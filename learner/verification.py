"""Verifying a checkpoint with all ranks before a resume: each reads its share of the files, rank 0 decides.

newest record ─▶ each rank reads its share and compares the seals ─▶ one mismatch sets it aside, and the one before is tried
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from learner import checkpoint
from learner.checkpoint import Usable
from learner.seals import Seal, mismatch


class Group(Protocol):
    """What is needed of `learner.ranks.Ranks`."""

    rank: int
    world: int

    def broadcast_bytes(self, payload: bytes) -> bytes: ...
    def gather_bytes(self, payload: bytes) -> list[bytes]: ...


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
    problem = mismatch(folder / name, {file: seals[file] for file in _share(ranks, seals)})
    problems = ranks.gather_bytes(problem.encode(errors="backslashreplace"))
    return next((text.decode() for text in problems if text), "")


def _share(ranks: Group, names: Iterable[str]) -> list[str]:
    """Return the files that this rank reads: every `world`-th, so that neighbours of one size go to different ranks."""
    return sorted(names)[ranks.rank :: ranks.world]
