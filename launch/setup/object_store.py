"""Ray's object store, through which published weights travel: its size, and whether shared memory (/dev/shm) holds it.

bytes(store) = VERSIONS w P + STORE_MARGIN        P parameters of w bytes each that are trained: all, or those of adapters
"""

import os
import shutil

from configs.load import ConfigError
from configs.schema import Config
from launch.setup.environment import variable
from launch.setup.memory_plan import WIDTHS
from launch.setup.model_shape import trained_parameters

GIB = 1 << 30
# Versions of the weights that live at a time: the one that the learner is publishing, the newest on the weight board, and an
# older one that a slow worker is still loading. The usual two of three stay below the 80 % from which Ray spills to disk.
VERSIONS = 3
STORE_MARGIN = 256 << 20  # bytes of the object store for what travels with calls
SHARED_MEMORY = "/dev/shm"
SLOW_STORE_BYTES = 10**10  # a store that shared memory does not hold: up to here Ray uses the disk instead, above it refuses


def object_store_bytes(config: Config, model: str) -> int:
    """Returns the size of Ray's object store.

    Args:
        config: Its dtype is that of the published weights.
        model: The policy's folder or hub name; "" when no weights are published, as in an evaluation.
    """
    published = WIDTHS[config.dtype] * trained_parameters(config, model) if model else 0.0
    return STORE_MARGIN + int(VERSIONS * published)


def check_object_store(config: Config, model: str) -> None:
    """ConfigError when a Ray of our own cannot be started because shared memory is far too small for its object store."""
    need, free = object_store_bytes(config, model), _shared_memory_free(config)
    if free is not None and need > free and need > SLOW_STORE_BYTES and not variable("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"):
        raise ConfigError(
            f"Ray's object store needs {need / GIB:.1f} GiB of shared memory for {VERSIONS} versions of the weights,"
            f" {SHARED_MEMORY} has {free / GIB:.1f} free: {_remedy(need)}, or join a Ray cluster (cluster.address)"
        )


def described_store(config: Config, model: str) -> str:
    """Returns what the store needs and what comes of it where there is less, for the plan."""
    need, free = object_store_bytes(config, model), _shared_memory_free(config)
    text = f"{need / GIB:.1f} GiB of shared memory for {VERSIONS} versions of the weights"
    if free is None or need <= free:
        return text
    result = "Ray would keep them on disk, which is slow" if need <= SLOW_STORE_BYTES else "Ray would not start here"
    return f"{text}; {SHARED_MEMORY} has {free / GIB:.1f} free, so {result}: {_remedy(need)}"


def _remedy(need: int) -> str:
    return (
        f"enlarge it (docker run --shm-size={need / GIB + 1:.0f}g; mount -o remount,size={need / GIB + 1:.0f}G {SHARED_MEMORY})"
    )


def _shared_memory_free(config: Config) -> int | None:
    """Bytes free for the object store of a Ray of our own; None when we join a cluster, or on systems without /dev/shm."""
    if config.cluster.address != "auto" or variable("RAY_ADDRESS") or not os.path.isdir(SHARED_MEMORY):
        return None
    return shutil.disk_usage(SHARED_MEMORY).free
