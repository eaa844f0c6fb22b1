"""Files of JSON lines that survive a kill: a row that was written whole is kept, one that was cut off is removed."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from buffer import files, json_lines
from buffer.json_text import open_regular

CHUNK = 1 << 16  # bytes of a file that are read at a time, from its end


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows, and wait until they are on disk: what follows may rely on them."""
    with files.open_to_append(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def repair_and_read(path: Path) -> list[dict[str, Any]]:
    """Repair the file and read all its rows; there are none when it does not exist.

    Raises:
        ValueError: a line is not a JSON object; the message names it.
    """
    repair(path)
    return [row for _, row in json_lines.rows(path)]


def repair(path: Path) -> None:
    """Cut what a killed process left behind the last newline, so that the next row starts on a line of its own.

    Raises:
        JsonError: it is no regular file.
    """
    if path.exists():
        with open_regular(path) as file:
            end = start = file.seek(0, os.SEEK_END)
            newline = -1
            while start > 0 and newline < 0:  # from the end: the file may be larger than memory
                start = max(0, start - CHUNK)
                file.seek(start)
                newline = file.read(min(CHUNK, end - start)).rfind(b"\n")
        if start + newline + 1 < end:
            files.truncate(path, start + newline + 1)
