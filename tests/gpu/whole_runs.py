"""Whole runs on the device, as a user starts them, with all parts on one card; and what is looked at in each."""

import time
from collections.abc import Iterator
from pathlib import Path

from launch.setup.memory_plan import GB
from tests.gpu.figures import Figure, failed, figure
from tests.gpu.parts import Device
from tests.launch.whole_run import Ended, finish, start

# Nothing of W&B, which a machine without a network may not have.
EVERYWHERE = ("tracking.mode=disabled",)
# Between vLLM and the learner: float32, and bfloat16 with other kernels.
MISMATCH = {"cpu": 1e-3, "cuda": 0.02}
LIMIT_S = {"cpu": 600, "cuda": 170}


def on(device: Device) -> tuple[str, ...]:
    """Returns the overrides of a run there."""
    if device == "cpu":
        return EVERYWHERE
    import torch

    size = torch.cuda.get_device_properties(0).total_memory / GB
    return (*EVERYWHERE, "cluster.device=cuda", "cluster.share_gpu=true", f"cluster.gpu_memory_gb={size:.1f}")


def figures_of_run(device: Device, folder: Path, name: str, *overrides: str) -> Iterator[Figure]:
    """Run it to its end, and yield what it left behind.

    Args:
        device: Where.
        folder: For run folders.
        name: Of the run.
        *overrides: Over the preset `tiny`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    ended = finish(start(folder, name, *on(device), *overrides), folder / name, timeout_s=LIMIT_S[device])
    yield figure("whole run", time.perf_counter() - began, "s")
    if ended.status:
        yield failed("exit status", f"{ended.status}: {ended.output[-3000:]}")
        return
    yield from _left_behind(device, ended)


def _left_behind(device: Device, ended: Ended) -> Iterator[Figure]:
    summary = ended.summary
    yield figure("optimiser steps", summary["steps"], least=_steps(ended))
    # of the first step, whose groups the learner's own version sampled: later ones may be a version older
    mismatch = ended.series("off_policy/mismatch_kl")[0]
    yield figure("mismatch of vLLM and learner, KL, first step", mismatch, "nats", most=MISMATCH[device])
    yield figure("staleness, largest", summary["staleness"]["max"], "versions", most=summary["staleness"]["bound"])
    yield figure("groups trained on", summary["groups"]["trained"], least=1)
    yield figure("judgements that parse, before", summary["parse_rate"]["before"], least=0.5)
    yield figure("gradient norm, largest", max(ended.series("optim/grad_norm")), least=1e-9)
    for name, seconds in summary["seconds"].items():
        yield figure(f"seconds of {name.replace('_', ' ')}", seconds, "s")
    for metric in ("time/train_s", "time/publish_s"):
        taken = sorted(ended.series(metric))
        yield figure(f"{metric}, median", taken[len(taken) // 2], "s")


def _steps(ended: Ended) -> int:
    """The steps that it was to take."""
    from configs.load import load

    return load(ended.folder / "config.yaml").grpo.steps
