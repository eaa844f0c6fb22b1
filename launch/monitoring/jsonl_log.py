"""Files of JSON lines that survive a kill: a row that was written whole is kept, one that was cut off is removed."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows, and wait until they are on disk: what follows may rely on them."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def repair_and_read(path: Path) -> list[dict[str, Any]]:
    """Repair the file and read all its rows; there are none when it does not exist.

    Raises:
        ValueError: a line is not a JSON object; the message names it.
    """
    repair(path)
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line]


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:  # broken JSON, or not UTF-8
        raise ValueError(f"{where}: not JSON ({error}); remove the line, and its row is computed again") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object; remove the line, and its row is computed again")
    return row


def repair(path: Path) -> None:
    """Cut what a killed process left behind the last newline, so that the next row starts on a line of its own."""
    if path.exists():
        whole = path.read_bytes()
        if whole and not whole.endswith(b"\n"):
            os.truncate(path, whole.rfind(b"\n") + 1)
