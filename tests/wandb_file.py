"""Reads an offline W&B run (`run-<id>.wandb`) back, so that tests see what W&B will show and not what we meant to send.

The file is a LevelDB log: a 7-byte head (":W&B", u16 magic 0xBEE1, u8 version), then blocks of 32 KiB, in which each chunk is

    crc32(type byte + data) u32 · length u16 · type u8 (1 whole, 2 first, 3 middle, 4 last) · data      little endian

and a block's last bytes are zeros where no chunk head fits. The chunks of a record, joined, are one protobuf `Record`.
W&B writes in batches: a process that was killed leaves a torn tail, which is reported (`whole`), not an error.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as proto

BLOCK, HEAD, FILE_HEAD = 32768, struct.Struct("<IHB"), struct.Struct("<4sHB")
MAGIC = (b":W&B", 0xBEE1)
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class WandbFileError(ValueError):
    """Not a .wandb file, or one whose content is damaged before its tail."""


@dataclass(kw_only=True, slots=True)
class WandbRun:
    """What the file says. `history` holds one dict per logged row; `step_metrics` maps a metric (or glob) to its axis."""

    run_id: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    whole: bool = False

    def series(self, metric: str) -> list[float]:
        """Every value of one metric, in the order of logging."""
        return [row[metric] for row in self.history if metric in row]


def find(run_folder: Path) -> Path:
    """The one .wandb file under a run folder; WandbFileError when there is none, or more than one."""
    files = sorted({path.resolve() for path in run_folder.glob("wandb/*/run-*.wandb")})
    if len(files) != 1:
        raise WandbFileError(f"{run_folder}: expected one .wandb file, found {[str(f) for f in files]}")
    return files[0]


def read(path: Path) -> WandbRun:
    """Read a run. `whole` is true when the last record is complete and says that the run exited."""
    run = WandbRun()
    for payload in records(path.read_bytes(), str(path)):
        record = proto.Record()  # type: ignore[attr-defined]  # made at run time
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.project = record.run.run_id, record.run.project
            run.config.update(_items(record.run.config.update))
        elif kind == "config":
            run.config.update(_items(record.config.update))
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "metric":
            run.step_metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    run.whole = run.exit_code is not None
    return run


def records(data: bytes, name: str) -> Iterator[bytes]:
    """The records of a file's bytes; ends quietly where a chunk runs past the end of the file (a torn tail)."""
    if len(data) < FILE_HEAD.size or FILE_HEAD.unpack_from(data)[:2] != MAGIC:
        raise WandbFileError(f"{name}: does not begin like a .wandb file")
    position, parts = FILE_HEAD.size, list[bytes]()
    while position + HEAD.size <= len(data):
        room = BLOCK - position % BLOCK
        crc, length, kind = HEAD.unpack_from(data, position) if room >= HEAD.size else (0, 0, 0)
        if kind == 0 and length == 0:  # the zeros that fill a block
            position += room
            continue
        start, end = position + HEAD.size, position + HEAD.size + length
        if end > len(data):
            return
        chunk = data[start:end]
        if zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != crc:
            raise WandbFileError(f"{name}: damaged chunk at byte {position}")
        if (kind in (MIDDLE, LAST)) != bool(parts) or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            raise WandbFileError(f"{name}: chunk of type {kind} out of place at byte {position}")
        parts.append(chunk)
        position = end
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
            parts.clear()


def _items(items: Any) -> dict[str, Any]:
    """Key-value items of a config, history or summary record; nested keys are joined by a dot."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
