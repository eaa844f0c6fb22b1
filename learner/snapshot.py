"""Copies of what is to be saved, in the memory of this machine, so that it can be written while training goes on."""

import socket
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

CGROUP = Path("/sys/fs/cgroup")
SHARE = 0.5  # of the free memory that snapshots may take: other processes of the run still grow


def on_cpu(value: Any) -> Any:
    """Return a deep copy of nested containers whose tensors are in the CPU's memory.

    Views of one storage, as tied weights and the flat buffers of ZeRO have, are views of one copy again: a file has no more
    bytes than one of the original.
    """
    return _copied(value, {})


def _copied(value: Any, storages: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _copied_tensor(value.detach(), storages)
    if isinstance(value, dict):
        copy = type(value)()  # an OrderedDict stays one
        for key, item in value.items():
            copy[key] = _copied(item, storages)
        return copy
    if type(value) in (list, tuple):
        return type(value)(_copied(item, storages) for item in value)
    return deepcopy(value)


def _copied_tensor(tensor: Tensor, storages: dict[int, Tensor]) -> Tensor:
    storage = tensor.untyped_storage()
    if storage.data_ptr() not in storages:
        whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
        storages[storage.data_ptr()] = whole.to("cpu", copy=True)
    copy = storages[storage.data_ptr()].untyped_storage()
    return torch.empty(0, dtype=tensor.dtype).set_(copy, tensor.storage_offset(), tensor.size(), tensor.stride())


def have_room(needed: Mapping[str, int]) -> bool:
    """Return whether this machine has room for the snapshots of its processes.

    Args:
        needed: bytes of all snapshots by the name of the machine.
    """
    return needed[socket.gethostname()] <= SHARE * free_memory()


def free_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes that processes of this machine, or of this container, can still take."""
    free = psutil.virtual_memory().available
    try:
        limit, used = ((cgroup / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        lines = (cgroup / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, StopIteration):  # no container, or one without this file
        return free
    return free if limit == "max" else min(free, int(limit) - int(used) + cached)
