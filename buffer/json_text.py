"""JSON that somebody else may have written: what is wrong with it, or without end in it, is a `JsonError` (pure, stdlib).

    file ─▶ regular? ─▶ within the bound? ─▶ parsed ─▶ an object

A device or a pipe in the place of a file would be read for ever, a line without end fills the memory, nesting without end the
stack, and a number of a million digits takes minutes: Python's own limits on the last two are kept, and become the same error.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_FILE = 64 << 20  # bytes of a file that is one object
LONGEST_LINE = 256 << 20  # bytes of a line; ours hold a group each, of which a stream takes 64 MiB by default
QUOTED = 200  # characters of a parser's own words, which may quote the text


class JsonError(ValueError):
    """A text or file is not the JSON that it should be; the message names its place."""


def parse_object(text: str | bytes, place: str) -> dict[str, Any]:
    """Return the object in a text.

    Args:
        text: The text; bytes are UTF-8, UTF-16 or UTF-32.
        place: File and line, for errors.

    Raises:
        JsonError: It holds no object.
    """
    return _object(_parse(text, place), place)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file of at most LARGEST_FILE bytes.

    Raises:
        JsonError: It holds no object, is larger, or is no regular file.
        OSError: It cannot be read.
    """
    return _object(read_value(path), str(path))


def read_value(path: Path) -> Any:
    """Return what a file of at most LARGEST_FILE bytes holds, a list as well as an object.

    Raises:
        JsonError: It is not JSON, is larger, or is no regular file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise JsonError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, and no file that belongs here is")
    return _parse(text, str(path))


def _parse(text: str | bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JsonError(f"{place}: not JSON ({str(error)[:QUOTED]})") from None


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise JsonError(f"{place}: expected a JSON object")
    return value


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        JsonError: It is a device, a pipe or a socket, which may never end.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for one
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise JsonError(f"{path}: not a regular file, but a device, a pipe or a folder")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
