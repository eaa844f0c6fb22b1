"""The import of DeepSpeed, without what it does by default: compile operators, read pickles, log."""

import logging
import os
from types import ModuleType


def deepspeed(device: str) -> ModuleType:
    """Return the DeepSpeed module, set up for `device` ("cpu" or "cuda").

    No operator is compiled on first use: a build takes minutes, and a killed one hangs the next process. No pickle is
    read from disk.
    """
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # stronger than the weights_only=False of DeepSpeed's own calls
    import deepspeed as module

    # A table of operators that may be compiled, read when the process group is made; left empty, the shared-memory
    # collective (186 s to build, used by inference only) is never built. Not a public switch: a test watches it.
    module.ops.__compatible_ops__ = {}
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return module
