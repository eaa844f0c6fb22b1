"""Seals of files: size and checksum, taken while a file is written, compared when it is read again.

They protect against accidents (a cut file, a disk's error), not against attacks.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import xxhash

HASH = "xxh3-64"
CHUNK = 1 << 22  # bytes of a file that are read at a time

Seal = list[int]
"""[size in bytes, checksum by HASH] of a file."""


class SealedFile:
    """A new file that is sealed while it is written, by something that only ever appends. It is on disk when the block ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._size, self._hash = 0, xxhash.xxh3_64()

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._hash.update(data)
        self._size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand to the system what was written."""
        self._file.flush()

    @property
    def seal(self) -> Seal:
        """The seal of what was written so far."""
        return [self._size, self._hash.intdigest()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())


def seal(path: Path, names: Iterable[str]) -> dict[str, Seal]:
    """Sync the files `names` under `path` to disk and read them; return their seals."""
    seals = {}
    for name in names:
        sync(path / name)
        seals[name] = _seal(path / name)
    return seals


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
            return f"{path / name} is not what was written: [size, {HASH}] {current}, {sealed} when written"
    return ""


def sync(path: Path) -> None:
    """Return when a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seal(path: Path) -> Seal:
    size, checksum = 0, xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            checksum.update(chunk)
    return [size, checksum.intdigest()]
