"""How the config builds an engine: for the rollout actors of a run, and for a judge in this process."""

from actors.vllm_build import VllmSettings
from buffer.weights import AdapterShape
from configs.schema import Config
from launch.setup.prompt_source import sampling_seed
from launch.setup.tokenizer import Tokenizer


def engine_settings(
    config: Config, *, model: str, number: int, tokenizer: Tokenizer | None, adapters: AdapterShape | None = None
) -> VllmSettings:
    """Returns the settings of one engine.

    Args:
        config: The run's.
        model: Folder or hub name of the model.
        number: Of the engine among those of a run, from which its own stream of samples is drawn.
        tokenizer: The policy's, which knows where a completion ends; None: at the ends that the model's files name.
        adapters: See `VllmSettings`.
    """
    return VllmSettings(
        model_path=model,
        dtype=config.dtype,
        context=config.model.context,
        sequences=config.rollout.max_groups * config.rollout.samples,
        kv_cache_bytes=config.kv_cache_bytes,
        gpu_memory=config.rollout.gpu_memory,
        seed=sampling_seed(f"engine/{config.run.seed}/{number}"),
        device=config.cluster.device,
        processes=config.rollout.tensor_parallel,
        end_token=None if tokenizer is None else tokenizer.end_token,
        adapters=adapters,
    )
