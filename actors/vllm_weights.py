"""Published weights into the model of a running vLLM engine.

    arrays in checkpoint layout ─▶ vLLM's layerwise reload ─▶ laid out for the kernels, in the same storage as before

Copying weights into the parameters is not enough: kernels may hold them in another layout (fused experts), or values that were
derived from them (the absorbed projections of latent attention). vLLM's own reload runs each layer's processing again.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from actors.vllm_packing import PackedProduct, forget_packed
from buffer.weights import Array, PublishedWeights

REMEDY = "train a model of another architecture, or another version of vLLM"


class ModelUnsupported(ValueError):
    """Weights of this model cannot be changed in a running engine. Nothing that is tried again changes that."""


class LiveModel:
    """The torch model inside an engine. All methods are called by the thread that steps the engine."""

    lora_request = None
    """What requests carry of adapters: there are none."""

    def __init__(self, model: Any, config: Any, *, on_cpu: bool) -> None:
        """Takes a model in this process.

        Args:
            model: what vLLM has made, or this process's shard of it.
            config: vLLM's.
            on_cpu: whether it computes on CPU.
        """
        self._model, self._config, self._on_cpu = model, config, on_cpu

    def staged(self, weights: PublishedWeights) -> AbstractContextManager[None]:
        """Prepare weights while the engine decodes: there is nothing to prepare."""
        return nullcontext()

    def load(self, weights: PublishedWeights) -> None:
        """Change all weights. Errors as of `load_tensors`."""
        self.load_tensors((name, as_tensor(array, weights.dtypes[name])) for name, array in weights.arrays.items())

    def load_tensors(self, tensors: Iterable[tuple[str, Any]]) -> None:
        """Change all weights to these, which have the names and shapes of a checkpoint.

        Raises:
            ModelUnsupported: vLLM does not take them as they are published, not all of its own are among them, or it does not
                compute with its parameters: they are quantised, or packed away by a kernel library.
        """
        import torch
        from vllm.config import set_current_vllm_config

        if (method := self._config.model_config.quantization) is not None:
            raise self.unsupported(f"its weights are quantised ({method})", "train the model that it was made from")
        hollow = [name for name, parameter in self._model.named_parameters() if parameter.numel() == 0]
        if hollow:
            raise self.unsupported(f"{hollow[0]} was packed away by a kernel library, where it cannot be changed")
        try:
            with torch.no_grad(), set_current_vllm_config(self._config), self._reloading() as wanted:
                loaded = self._model.load_weights(tensors)
        except Exception as error:  # of any kind: it is another model's code for each architecture
            why = f"vLLM does not take the published weights ({type(error).__name__}: {error})"
            raise self.unsupported(why) from error
        if self._on_cpu:
            forget_packed(self._model)
        missing = sorted(wanted - (wanted if loaded is None else loaded))
        if missing:
            raise self.unsupported(f"vLLM found nothing for {missing[0]} (of {len(missing)}) in the published weights")

    @contextmanager
    def _reloading(self) -> Iterator[set[str]]:
        """Put the model back into the layout of a checkpoint, and lay it out for the kernels again at the end. Yields the names
        of its parameters."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

        names = {name for name, _ in self._model.named_parameters()}
        if self._on_cpu:
            _forget_expert_kernels(self._model)
        initialize_layerwise_reload(self._model)
        # Tied weights are one before and two in between; what is derived from weights is there before and not in between.
        yield names & {name for name, _ in self._model.named_parameters()}
        finalize_layerwise_reload(self._model, self._config.model_config)

    def unsupported(self, why: str, remedy: str = REMEDY) -> ModelUnsupported:
        """Returns the error that this model cannot be trained with, with its names."""
        return unsupported(type(self._model).__name__, self._config.model_config.model, why, remedy)


def unsupported(architecture: str, model: str, why: str, remedy: str = REMEDY) -> ModelUnsupported:
    """Returns the error that a model of this architecture, folder or hub name cannot be trained with."""
    return ModelUnsupported(f"{architecture} ({model}): {why}; {remedy}")


def keep_weights() -> None:
    """Let linear layers keep their own weights on CPU; to be called before an engine is built.

    Else vLLM packs each weight into a private copy for a kernel library (oneDNN and others), after which changing weights fails
    or, for tied embeddings, is silently without effect. `LiveModel` checks that it had an effect.
    """
    from vllm.model_executor.layers import utils

    def keep_weight(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = PackedProduct()

    utils.dispatch_cpu_unquantized_gemm = keep_weight


def _forget_expert_kernels(model: Any) -> None:
    """vLLM 0.32 packs fused experts for its CPU kernel only where there is no kernel yet: without this, a reload would put
    weights that are not packed where the kernel expects packed ones."""
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def as_tensor(array: Array, dtype: str) -> Any:
    """Returns a torch tensor that shares the memory of a published array. It must not be written to."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the array is read-only, and so do we use it
        tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
