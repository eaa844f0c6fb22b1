"""Files of JSON lines that are larger than memory: each line is decoded when it is needed (pure, standard library).

The cold start's files hold token ids as text. All of them as Python integers would take several times the size of the file,
in each process that reads it; an offset takes 8 bytes a line.
"""

import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from buffer import json_text
from buffer.json_text import JsonError, open_regular, parse_object

Row = dict[str, Any]


def scan(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield number (from 1), offset in bytes and text of each line of a file that is not blank.

    Raises:
        JsonError: it is no regular file, or a line is longer than `json_text.LONGEST_LINE`.
        OSError: it cannot be read.
    """
    offset = number = 0
    longest = json_text.LONGEST_LINE
    with open_regular(path) as lines:
        while line := lines.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise JsonError(f"{path}:{number}: longer than {longest:,} bytes, and no line that belongs here is")
            if line.strip():
                yield number, offset, line
            offset += len(line)


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the offset of each line and the object that it holds; nothing when there is no file.

    Raises:
        JsonError: a line is not a JSON object, or the file is none of ours; names file and line.
    """
    for number, offset, line in scan(path) if path.exists() else ():
        try:
            yield offset, parse_object(line, f"{path}:{number}")
        except JsonError as error:
            raise JsonError(f"{error}; remove the line, and its row is computed again") from None


class JsonLines:
    """The objects in some lines of a file, in a chosen order, decoded each time that they are read.

    The file stays open, so a file that is renamed to its path later cannot mix with it.
    """

    def __init__(self, path: Path, offsets: Iterable[int]) -> None:
        """Open a file.

        Args:
            path: a file of JSON lines.
            offsets: where the lines start, in bytes (see `scan`).
        """
        self._file = open_regular(path)
        self._offsets = array("Q", offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Row:
        self._file.seek(self._offsets[index])
        row: Row = json.loads(self._file.readline(json_text.LONGEST_LINE))
        return row

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def subset(self, indices: Iterable[int]) -> "JsonLines":
        """Return some of these objects, in this order, of the same open file."""
        lines = object.__new__(JsonLines)
        lines._file, lines._offsets = self._file, array("Q", (self._offsets[index] for index in indices))
        return lines
