"""Published LoRA adapters into a running vLLM engine, beside weights that stay as they were loaded.

    arrays ─▶ a folder of peft's format, for a moment ─▶ vLLM's add_lora, in place ─▶ every request carries the adapters' name

Before the first pull all of the adapters is 0: a request that begins then, and still runs at the pull, decodes on with the
published ones.
"""

import json
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from actors.vllm_weights import ModelUnsupported, as_tensor
from buffer.weights import AdapterShape, PublishedWeights

NAME, NUMBER = "policy", 1
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM lays out its buffers


class LiveAdapters:
    """The adapters of an engine. All methods are called by the thread that steps the engine."""

    def __init__(self, engine: Any, shape: AdapterShape) -> None:
        """Give the engine adapters that change nothing.

        Args:
            engine: an `LLMEngine` that was built with `adapter_arguments`.
            shape: of the adapters that will be published.
        """
        from vllm.lora.request import LoRARequest

        self._engine, self._shape = engine, shape
        self.lora_request = LoRARequest(NAME, NUMBER, "in memory")
        """What every request carries. vLLM knows the adapters by their number, and looks for no folder."""
        manager = engine.model_executor.driver_worker.worker.model_runner.lora_manager
        manager.add_dummy_lora(self.lora_request, shape.rank)  # all of it is 0
        engine.add_lora(self.lora_request)

    def staged(self, weights: PublishedWeights) -> AbstractContextManager[None]:
        """Prepare weights while the engine decodes: adapters are small, and written when they are loaded."""
        return nullcontext()

    def load(self, weights: PublishedWeights) -> None:
        """Change the adapters.

        Raises:
            ModelUnsupported: vLLM does not take them as they are published.
            ValueError: they are of another shape than the engine was built for.
        """
        if weights.adapters != self._shape:
            raise ValueError(f"the engine was built for {self._shape}, and {weights.adapters or 'whole weights'} was published")
        with tempfile.TemporaryDirectory(prefix="spct-adapters-") as folder:
            self._write(weights, Path(folder))
            self._replace(folder)

    def unsupported(self, why: str) -> ModelUnsupported:
        """Returns the error that adapters of this model cannot be sampled with, with its names."""
        model = self._engine.vllm_config.model_config
        return ModelUnsupported(f"{model.architecture} ({model.model}): {why}; set learner.lora_rank=0, or train another model")

    def _write(self, weights: PublishedWeights, folder: Path) -> None:
        from safetensors.torch import save_file

        shape = self._shape
        settings = {"peft_type": "LORA", "r": shape.rank, "lora_alpha": shape.alpha, "target_modules": list(shape.targets)}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        tensors = {name: as_tensor(array, weights.dtypes[name]) for name, array in weights.arrays.items()}
        save_file(tensors, folder / "adapter_model.safetensors")

    def _replace(self, folder: str) -> None:
        from vllm.lora.request import LoRARequest

        try:
            self._engine.add_lora(LoRARequest(NAME, NUMBER, folder, load_inplace=True))
        except Exception as error:  # of any kind: it is another model's code for each architecture
            raise self.unsupported(f"vLLM does not take its adapters ({type(error).__name__}: {error})") from error


def adapter_arguments(shape: AdapterShape | None) -> dict[str, Any]:
    """Returns the arguments of vLLM's engine for adapters of a shape; none for none.

    The layers are named: vLLM 0.32 would put an adapter at the head as well, and then cannot compute the log-probs of a prompt
    beside sequences that it decodes.
    """
    if shape is None:
        return {}
    slots = {"max_loras": 1, "max_lora_rank": next(each for each in MAX_RANKS if each >= shape.rank)}
    return {"enable_lora": True, "lora_target_modules": list(shape.targets), **slots}
