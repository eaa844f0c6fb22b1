"""What a process takes from where it was started: the variables of its environment, and a terminal of any encoding."""

import io
import os
import sys
from collections.abc import MutableMapping

# Beginnings of the names that we and our libraries read. For these, `NAME=` means "not set", as people use it in scripts. For
# others it may mean something: CUDA_VISIBLE_DEVICES= hides all GPUs.
OURS = ("HF_", "HUGGINGFACE_", "OMP_", "OPENAI_", "RAY_", "SPCT_", "TRANSFORMERS_", "TRITON_", "VLLM_", "WANDB_", "XDG_")


def variable(name: str) -> str:
    """Returns a variable of the environment, "" where it is not set or blank."""
    return os.environ.get(name, "").strip()


def forget_blank_variables(environ: MutableMapping[str, str]) -> None:
    """Remove what is set to nothing: Ray would look for a cluster at "", and the hub would keep its cache in the working
    folder."""
    for name in [name for name, value in environ.items() if name.startswith(OURS) and not value.strip()]:
        del environ[name]


def print_in_any_encoding() -> None:
    """Let standard output and error write what their encoding lacks as an escape, instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
