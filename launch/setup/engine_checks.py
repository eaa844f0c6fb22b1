"""Whether our own engines can be built as they are asked for: at each door behind which one is, before anything starts."""

from collections.abc import Mapping

from configs.schema import Config
from launch.setup.engine_build import check_engine_build
from launch.setup.engine_cut import check_tensor_parallel
from launch.setup.engine_heads import check_heads


def check_engines(config: Config, arch: Mapping[str, object] | None) -> None:
    """ConfigError when engines of this environment cannot judge or sample as the config asks for.

    Args:
        config: Of the run, the evaluation or the judge.
        arch: The model's config.json, None when that is not known.
    """
    check_engine_build(config)
    check_tensor_parallel(config, arch)
    check_heads(config, arch)
