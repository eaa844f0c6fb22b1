"""Reads an offline W&B run (`run-<id>.wandb`) back, so that tests check what W&B will show and not what we meant to send.

The file is a LevelDB log: a 7-byte head (":W&B", u16 magic 0xBEE1, u8 version), then blocks of 32 KiB, in which each chunk is

    crc32(type byte + data) u32 · length u16 · type u8 (1 whole, 2 first, 3 middle, 4 last) · data      little endian

and a block's last bytes are zeros where no chunk head fits. The chunks of a record, joined, are one protobuf `Record`.
W&B writes in batches: a process that was killed leaves a torn tail, which is reported (`whole`), not an error.
"""

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
    """The content of a file."""

    run_id: str = ""
    """Id of the run."""
    project: str = ""
    """Its project."""
    group: str = ""
    """Its group."""
    job_type: str = ""
    """What it does."""
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name: `type`, `metadata` and `files`."""
    alerts: dict[str, str] = field(default_factory=dict)
    """The text of each, by its title."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its configuration."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One dict per logged row."""
    summary: dict[str, Any] = field(default_factory=dict)
    """The last value of each metric."""
    step_metrics: dict[str, str] = field(default_factory=dict)
    """The axis of each metric, or glob of metrics."""
    exit_code: int | None = None
    """Exit code of the run; None if it is not recorded."""
    whole: bool = False
    """Whether the last record is complete and records the exit."""

    def series(self, metric: str) -> list[float]:
        """Return every value of one metric, in the order of logging."""
        return [row[metric] for row in self.history if metric in row]


def find(run_folder: Path) -> Path:
    """Return the one .wandb file under a run folder; WandbFileError if there is none, or more than one."""
    files = sorted({path.resolve() for path in run_folder.glob("wandb/*/run-*.wandb")})
    if len(files) != 1:
        raise WandbFileError(f"{run_folder}: expected one .wandb file, found {[str(f) for f in files]}")
    return files[0]


def read(path: Path) -> WandbRun:
    """Read a run."""
    run = WandbRun()
    for payload in records(path.read_bytes(), str(path)):
        record = proto.Record()  # type: ignore[attr-defined]  # made at run time
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.project, run.group = record.run.run_id, record.run.project, record.run.run_group
            run.job_type = record.run.job_type
            run.config.update(_items(record.run.config.update))
        elif kind == "config":
            run.config.update(_items(record.config.update))
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "metric":
            run.step_metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            found = record.artifact
            files = [entry.path for entry in found.manifest.contents]
            run.artifacts[found.name] = {"type": found.type, "metadata": json.loads(found.metadata or "{}"), "files": files}
        elif kind == "alert":
            run.alerts[record.alert.title] = record.alert.text
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    run.whole = run.exit_code is not None
    return run


def records(data: bytes, name: str) -> Iterator[bytes]:
    """Yield the records of a file's bytes, up to a chunk that runs past the end of the file (a torn tail)."""
    if len(data) < FILE_HEAD.size or FILE_HEAD.unpack_from(data)[:2] != MAGIC:
        raise WandbFileError(f"{name}: does not begin like a .wandb file")
    position, chunks = FILE_HEAD.size, list[bytes]()
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
        if (kind in (MIDDLE, LAST)) != bool(chunks) or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            raise WandbFileError(f"{name}: chunk of type {kind} out of place at byte {position}")
        chunks.append(chunk)
        position = end
        if kind in (WHOLE, LAST):
            yield b"".join(chunks)
            chunks.clear()


def _items(items: Any) -> dict[str, Any]:
    """Return the items of a config, history or summary record; nested keys are joined by a dot."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
