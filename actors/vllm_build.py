"""How a vLLM engine is built: the environment that it reads, our settings, and vLLM's arguments.

VllmSettings ─▶ build_engine ─▶ LLMEngine in this process, to be stepped by the thread that built it
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from actors.vllm_adapters import adapter_arguments
from actors.vllm_shards import shard_arguments
from actors.vllm_weights import keep_weights
from buffer.weights import AdapterShape

# Read by vLLM at import. One process and one thread an engine: on CPU a second OpenMP thread that spins costs more
# than it gives, and the in-process executor is the one that lets weights be loaded between two steps.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}
# vLLM compiles one small log-prob helper even in eager mode: seconds of start-up and a C++ compiler for nothing on CPU.
# It also pins the threads of several processes to NUMA nodes, one each, and refuses to start where there are fewer.
CPU_ENVIRONMENT = {"TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}

# Tokens of one step at most: a weight pull waits for a step, and steps that are too short leave a device idle.
BATCHED_TOKENS = 4096  # on CPU: a second or two
CUDA_BATCHED_TOKENS = 8192  # a third of a second at 8B on an H100; vLLM's own default for an `LLMEngine` is 2048
# Share of the GPU's memory that vLLM asks for where the KV cache has a size of its own. It would refuse to start where less
# than the share is free, whoever holds the rest; beyond that the share then means nothing.
UNASKED = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSettings:
    """How an engine is built."""

    model_path: str
    """Folder or hub name of the model."""
    dtype: str
    """Of its weights: bfloat16, float16 or float32."""
    context: int
    """Tokens of a prompt and its completion at most."""
    sequences: int
    """Completions decoded at a time at most."""
    kv_cache_bytes: int | None
    """Size of the KV cache: nothing is measured then, so parts that share a GPU may start at the same time. None, on CUDA only:
    what `gpu_memory` leaves beside the weights and a step, as vLLM measures it on a GPU that nobody else fills meanwhile."""
    gpu_memory: float
    """Share of the GPU's memory that the engine takes where `kv_cache_bytes` is None, 0..1."""
    seed: int
    """Of the engine's own stream: another one for each replica, or all replicas draw the same samples."""
    device: str
    """cpu or cuda."""
    end_token: int | None = None
    """Ends a completion as the chat template ends a turn, beside the ends that the model's files name."""
    processes: int = 1
    """Over which the model is cut, each with a GPU of its own: tensor parallelism. 1: the engine is in this process."""
    adapters: AdapterShape | None = None
    """Of the adapters that will be published; None: whole weights will be."""


def build_engine(settings: VllmSettings) -> Any:
    """Returns the `LLMEngine`. vLLM never moves an engine to another thread: streams of a GPU, and the number of threads of an
    operator, belong to the thread that built it. So the caller steps it.

    Raises:
        ValueError: There is no size for the KV cache on CPU.
    """
    on_cpu = settings.device == "cpu"
    if on_cpu and settings.kv_cache_bytes is None:
        raise ValueError("kv_cache_bytes is None: on CPU the KV cache needs a size (rollout.kv_cache_mb)")
    for name, value in (ENVIRONMENT | (CPU_ENVIRONMENT if on_cpu else {})).items():
        os.environ.setdefault(name, value)
    with _collector_paused():
        if on_cpu:
            keep_weights()
            _look_at_models_here()
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        gc.freeze()  # what was imported stays: vLLM collects by hand while it builds, and need not look through it
        return LLMEngine.from_engine_args(EngineArgs(**arguments(settings)))


def arguments(settings: VllmSettings) -> dict[str, Any]:
    """Returns vLLM's `EngineArgs` by name."""
    common = {
        "model": settings.model_path,
        "dtype": settings.dtype,
        "max_model_len": settings.context,
        "max_num_seqs": settings.sequences,
        "seed": settings.seed,
        # the log-prob of the distribution that was sampled, at its temperature: the mu of the importance weight
        "logprobs_mode": "processed_logprobs",
        # Logits in float32, as in the learner: those of bfloat16 are 0.125 apart at 16..32. Changes nothing in float32 models.
        "hf_overrides": {"head_dtype": "float32"},
        "disable_log_stats": True,
        "enable_prefix_caching": True,
        "kv_cache_memory_bytes": settings.kv_cache_bytes,
        **adapter_arguments(settings.adapters),
        **shard_arguments(settings.processes),
    }
    if settings.device == "cpu":
        # vLLM 0.32 on CPU dies when the prefill of a seeded request is split over two steps.
        whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(BATCHED_TOKENS, settings.context)}
        # Multi-head latent attention (DeepSeek) has kernels for AMX as well, which vLLM takes on a processor that has it, and
        # which know bfloat16 alone. On other models the word changes nothing.
        return common | whole | {"enforce_eager": True, "block_size": 32, "attention_backend": "CPU_MLA"}
    share = settings.gpu_memory if settings.kv_cache_bytes is None else UNASKED
    step = max(CUDA_BATCHED_TOKENS, settings.sequences)  # a step decodes a token of each
    return common | {"gpu_memory_utilization": share, "max_num_batched_tokens": step}


def _look_at_models_here() -> None:
    """vLLM looks at an architecture that it meets for the first time in a process of its own, so that no card is touched here.
    That process imports vLLM anew: on CPU ten seconds of a first start, for nothing."""
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's garbage collector. The import of vLLM leaves a great many objects that stay, and looking through
    them again and again is a quarter of an engine's start."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()
