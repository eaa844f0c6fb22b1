"""Files of a run folder, written so that no link in it is followed (pure, standard library).

A run folder may come from somebody else, and a link in the place of a file of ours would have us overwrite what it points at.

    a whole file     a new file beside it, then renamed to its name: a link there is replaced, and a kill leaves no half of it
    lines at its end opened with O_NOFOLLOW: a link there is refused

They are readable by their user alone, whatever the umask says.
"""

import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import TextIO

DRAFT = ".draft-"
MODE = 0o600


class LinkError(OSError):
    """A link stands where a file of ours should be; the message names it and the remedy."""


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file, or leave the one before as it is. What is returned from is on disk."""
    draft = path.with_name(f"{DRAFT}{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make a new name for a file of ours, or a copy where the file system has no hard links. FileNotFoundError without it."""
    try:
        os.link(source.resolve(strict=True), target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def open_to_append(path: Path, *, buffering: int = -1) -> TextIO:
    """Open a text file at its end, or a new one. LinkError when a link stands there."""
    descriptor = open_descriptor(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return open(descriptor, "a", encoding="utf-8", buffering=buffering)


def truncate(path: Path, size: int) -> None:
    """Cut a file to `size` bytes. LinkError when a link stands there."""
    descriptor = open_descriptor(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def open_descriptor(path: Path, flags: int) -> int:
    """Returns what `os.open` gives. LinkError when a link stands there."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW, MODE)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise LinkError(f"{path} is a link, and a run's files are not written through links: remove it") from None
