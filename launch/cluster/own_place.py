"""Where an actor runs, asked in its own process: the address that others reach it at, and the GPU that Ray gave it."""

import os
from collections.abc import Sequence

import ray


def own_gpu(assigned: Sequence[int | str], visible: str | None) -> int:
    """Returns the index that torch has for this process's GPU, 0 where it has none.

    Ray sets CUDA_VISIBLE_DEVICES to what it gave, which is then the only one and has index 0. It leaves the variable alone with
    RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES=1, and then the index counts among those that the process sees.

    >>> own_gpu([3], "3"), own_gpu([3], "1,3"), own_gpu([3], None), own_gpu([], None)
    (0, 1, 3, 0)

    Args:
        assigned: What Ray gave it (`ray.get_gpu_ids`).
        visible: CUDA_VISIBLE_DEVICES of the process; None where it is not set.

    Raises:
        RuntimeError: The process does not see what Ray gave it.
    """
    if not assigned:
        return 0
    if visible is None:
        return int(assigned[0])
    names = [name.strip() for name in visible.split(",")]
    if str(assigned[0]) not in names:
        raise RuntimeError(f"Ray gave this process GPU {assigned[0]}, and it sees {visible!r} only (CUDA_VISIBLE_DEVICES)")
    return names.index(str(assigned[0]))


def own_address_of(actor: object) -> str:
    """Runs inside an actor: where the other ranks reach it."""
    return str(ray.util.get_node_ip_address())


def own_gpu_of(actor: object) -> int:
    """Runs inside an actor: the index of its GPU."""
    return own_gpu(ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES"))
