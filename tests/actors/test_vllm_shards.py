"""An engine of two processes on CPU, each with half of the model, against transformers: as tests/actors/test_vllm_engine.py."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors.vllm_engine import EngineDead, VllmEngine
from actors.vllm_shards import ShardedModel, shard_arguments
from actors.vllm_weights import ModelUnsupported
from buffer.weights import seal
from launch.monitoring import processes
from tests.actors.test_vllm_engine import PROMPTS, TOLERANCE, noised, probe, publish, request, settings, worst
from tests.random_models import make

ROOT = Path(__file__).parents[2]


def test_one_process_is_the_engine_itself() -> None:
    assert shard_arguments(1) == {"distributed_executor_backend": "uni"}
    assert shard_arguments(4)["tensor_parallel_size"] == 4


READER = """
import sys, torch
from actors.vllm_shards import ShardWorker
from actors import vllm_shards
class Model:
    def __init__(self, *a, **k): pass
    def load_tensors(self, tensors):
        for name, tensor in tensors:
            print(name, str(tensor.dtype), tensor.float().flatten().tolist())
vllm_shards.LiveModel = Model
worker = ShardWorker()
worker.vllm_config = None
worker.model_runner = type("Runner", (), {"get_model": lambda self: None})()
print(repr(worker.load_published(sys.argv[1])))
"""


def test_what_is_staged_is_read_by_another_process_and_gone_afterwards() -> None:
    """In place of the engine's process one that prints what it would load."""
    halves = np.array([1.0, -2.5], dtype=np.float32).view(np.uint32) >> 16
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": halves.astype(np.uint16).view(np.int16)}
    model = ShardedModel(None)
    with model.staged(seal(1, arrays, {"a": "float32", "b": "bfloat16"})):
        path = model._path
        done = subprocess.run(
            [sys.executable, "-c", READER, path], capture_output=True, text=True, timeout=240, check=False, cwd=ROOT
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["a torch.float32 [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]", "b torch.bfloat16 [1.0, -2.5]", "''"]
    assert not os.path.exists(path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, VllmEngine]]:
    folder = make(tmp_path_factory.mktemp("model"), "llama", tied=True)
    engine = VllmEngine(dataclasses.replace(settings(folder), processes=2))
    yield folder, engine
    engine.close()


@pytest.mark.full
def test_both_processes_take_their_shards_of_each_pull(built: tuple[Path, VllmEngine]) -> None:
    folder, engine = built
    before = noised(folder, seed=0, scale=0.0)
    for version, seed in ((1, 1), (2, 2)):
        model = noised(folder, seed=seed)
        engine.load(dataclasses.replace(publish(model, version), probe=probe(model)))
        answers = [future.result(timeout=120) for future in engine.submit([request(p) for p in PROMPTS])]
        for prompt, completions in zip(PROMPTS, answers, strict=True):
            for completion in completions:
                assert worst(model, prompt, completion) < TOLERANCE
                assert worst(before, prompt, completion) > 100 * TOLERANCE  # so the check can fail
                assert set(completion.versions) == {version}
    assert not [fd for fd in os.listdir("/proc/self/fd") if "published-weights" in _target(fd)], "no copy is left"


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


@pytest.mark.full
def test_a_pull_in_flight_tags_each_token(built: tuple[Path, VllmEngine]) -> None:
    folder, engine = built
    first = engine.edition.version
    running = engine.submit([request(PROMPTS[0], samples=4, tokens=150)])[0]
    steps = engine.steps
    while engine.steps < steps + 20 and not running.done():
        time.sleep(0.002)
    engine.load(publish(noised(folder, seed=3), first + 1))
    completions = running.result(timeout=120)
    assert any({first, first + 1} <= set(completion.versions) for completion in completions)


@pytest.mark.full
def test_weights_that_do_not_fit_are_named_and_end_nothing_else(built: tuple[Path, VllmEngine]) -> None:
    folder, engine = built
    good = publish(noised(folder, seed=4), engine.edition.version + 1)
    arrays = {name: array for name, array in good.arrays.items() if "layers.1.mlp.down_proj" not in name}
    with pytest.raises(ModelUnsupported, match=r"LlamaForCausalLM .* found nothing for model\.layers\.1\.mlp\.down_proj"):
        engine.load(seal(good.version, arrays, {name: good.dtypes[name] for name in arrays}))
    engine.load(good)
    assert engine.edition.version == good.version


@pytest.mark.full
def test_an_engine_that_lost_a_process_ends(built: tuple[Path, VllmEngine]) -> None:
    """The last test of the engine: whoever waits for a completion gets the error, and nothing of it is left."""
    _, engine = built
    workers = processes.children_named("VLLM::Worker")
    assert len(workers) == 2
    running = engine.submit([request(PROMPTS[0], samples=8, tokens=180)])[0]
    workers[1].kill()
    with pytest.raises(EngineDead):
        running.result(timeout=120)
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert len(gone) == 2
