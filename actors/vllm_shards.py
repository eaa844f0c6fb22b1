"""An engine whose model is cut over several processes (tensor parallelism), each with a GPU of its own: published weights into
all of them.

    arrays ─▶ one file in memory, without a name ─▶ [ each process maps it, takes its shard of each weight ] ─▶ all answer

vLLM starts the processes, as children of this one (its executor `mp`), and runs calls of `ShardWorker` in each between two
steps. The arrays lie in Ray's object store, which children cannot see; a file that has no name is gone with this process,
whatever ends it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actors.vllm_weights import LiveModel, ModelUnsupported, as_tensor, keep_weights, unsupported
from buffer.weights import PublishedWeights

WORKER = "actors.vllm_shards.ShardWorker"


class ShardedModel:
    """The model of an engine of several processes. `load` is called by the thread that steps the engine."""

    lora_request = None
    """What requests carry of adapters: there are none."""

    def __init__(self, engine: Any) -> None:
        """Find the processes of an `LLMEngine` that was built with `shard_arguments`."""
        self._engine = engine
        self._path = ""

    @contextmanager
    def staged(self, weights: PublishedWeights) -> Iterator[None]:
        """Hold a copy of weights where all processes of the engine can read it. It decodes meanwhile."""
        import torch

        file = os.memfd_create("published-weights")
        try:
            self._path = f"/proc/{os.getpid()}/fd/{file}"
            tensors = {name: as_tensor(array, weights.dtypes[name]) for name, array in weights.arrays.items()}
            with os.fdopen(file, "wb", closefd=False) as written:
                # tensor by tensor; safetensors would write another file and rename it, or make all bytes in memory first
                torch.save(tensors, written)
            yield
        finally:
            os.close(file)

    def load(self, weights: PublishedWeights) -> None:
        """Change all weights, which must be staged. Errors as of `LiveModel.load`."""
        problems = self._engine.collective_rpc("load_published", args=(self._path,))
        if problem := next(filter(None, problems), ""):
            raise ModelUnsupported(problem)

    def unsupported(self, why: str) -> ModelUnsupported:
        """Returns the error that this model cannot be trained with, with its names."""
        model = self._engine.vllm_config.model_config
        return unsupported(model.architecture, model.model, why)


class ShardWorker:
    """What vLLM's worker in each process can do beside its own: vLLM makes it a base of the worker's class."""

    model_runner: Any
    vllm_config: Any

    def load_published(self, path: str) -> str:
        """Change the weights of this process to its shards of those in a file. Returns why the model does not take them, ""
        when it does: an error would lose its type on the way."""
        import torch
        from vllm.platforms import current_platform

        model = LiveModel(self.model_runner.get_model(), self.vllm_config, on_cpu=current_platform.is_cpu())
        try:
            model.load_tensors(torch.load(path, mmap=True, weights_only=True).items())
        except ModelUnsupported as error:
            return str(error)
        return ""


def shard_arguments(processes: int) -> dict[str, Any]:
    """Returns the arguments of vLLM's engine for as many processes: one is this process itself."""
    if processes == 1:
        return {"distributed_executor_backend": "uni"}
    return {"distributed_executor_backend": "mp", "tensor_parallel_size": processes, "worker_extension_cls": WORKER}


def _keep_weights_on_cpu() -> None:
    """vLLM imports this file in each process before it builds the model there."""
    import sys

    if "vllm.v1.worker.cpu_worker" in sys.modules:
        keep_weights()


_keep_weights_on_cpu()
