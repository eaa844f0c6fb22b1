"""A checkpoint that a run writes while it is served is loaded, and an older one never."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from launch.serving.newer_weights import Follower, newer
from learner import checkpoint
from learner.checkpoint import Record
from tests.fakes import FakeEngine
from tests.launch.serving.small_server import wait_until

TENSORS = {"a.weight": torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16), "b.bias": torch.tensor([0.25])}


def write(run: Path, version: int) -> None:
    folder = run / "checkpoints" / "policy"
    model = checkpoint.begin(folder, version) / "model"
    model.mkdir()
    save_file(TENSORS, model / "model.safetensors")
    checkpoint.commit(folder, Record(version=version, entries=(), ranks=1, zero_stage=1), keep=1)


def test_only_what_is_newer_is_read_and_every_bit_of_it(tmp_path: Path) -> None:
    assert newer(tmp_path, 0) is None
    write(tmp_path, 4)
    assert newer(tmp_path, 4) is None
    weights = newer(tmp_path, 3)
    assert weights is not None
    assert (weights.version, dict(weights.dtypes)) == (4, {"a.weight": "bfloat16", "b.bias": "float32"})
    assert np.array_equal(weights.arrays["a.weight"], TENSORS["a.weight"].view(torch.int16).numpy())
    assert weights.arrays["b.bias"] == 0.25


def test_a_follower_loads_each_newer_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 2)
    engine = FakeEngine()
    follower = Follower(engine, tmp_path, 2, look_s=0.01)
    for version in (3, 5):
        write(tmp_path, version)
        wait_until(lambda version=version: engine.loaded[-1:] == [version])
    follower.close()
    assert engine.loaded == [3, 5]
    assert follower.version == 5
