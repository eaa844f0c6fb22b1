"""Versions are published beside training: in their order, one at a time, and no error is lost."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from buffer.weights import PublishedWeights, WeightsRefused, seal
from learner.host_buffers import HostBuffers
from learner.publisher import Publisher
from tests.learner.run_by_hand import Run, config, experience
from tests.learner.test_base import trained


class SlowSink:
    """Takes a version only when it may."""

    def __init__(self) -> None:
        self.may, self.versions, self.asked = threading.Event(), list[int](), 0

    def publish(self, weights: PublishedWeights) -> None:
        assert self.may.wait(60)
        self.versions.append(weights.version)

    def republish_if_lost(self) -> None:
        self.asked += 1


def sealed(version: int) -> PublishedWeights:
    return seal(version, {"w": np.zeros(2, np.float32)}, {"w": "float32"})


def test_it_returns_at_once_and_the_version_before_is_waited_for() -> None:
    sink = SlowSink()
    publisher = Publisher(sink, timeout_s=0.3)
    publisher.publish(1, lambda: sealed(1))
    publisher.look_after()
    assert (sink.versions, sink.asked) == ([], 0), "nothing can be lost before it is there"
    with pytest.raises(TimeoutError, match=r"waited 0 s for version 1 to be published \(waits.progress_s\)"):
        publisher.wait()
    sink.may.set()
    publisher.wait()
    publisher.publish(2, lambda: sealed(2))
    publisher.wait()
    publisher.look_after()
    assert (sink.versions, sink.asked) == ([1, 2], 1)


def test_a_learner_whose_place_was_taken_hears_of_it() -> None:
    sink = SlowSink()
    sink.publish = lambda weights: (_ for _ in ()).throw(WeightsRefused("this learner was replaced"))  # type: ignore
    publisher = Publisher(sink, timeout_s=20)
    publisher.publish(1, lambda: sealed(1))
    with pytest.raises(WeightsRefused, match="replaced"):
        publisher.wait()
    publisher.wait()


def test_a_place_is_kept_for_each_weight_and_its_copy_is_whole() -> None:
    """Of pinned memory, which takes a card, this tests the layout alone."""
    buffers = HostBuffers(pinned=False)
    odd, half = torch.arange(3.0), torch.ones(5, 2, dtype=torch.bfloat16)
    first = {
        "odd": buffers.copy("odd", odd),
        "half": buffers.copy("half", half),
        "scalar": buffers.copy("scalar", torch.tensor(7)),
    }
    buffers.complete()
    odd += 1
    assert torch.equal(first["odd"], torch.tensor([0.0, 1.0, 2.0]))
    assert torch.equal(first["half"], half)
    assert first["scalar"].shape == ()
    again = buffers.copy("odd", odd)
    assert again.data_ptr() == first["odd"].data_ptr(), "the same memory, written over"
    assert torch.equal(first["odd"], torch.tensor([1.0, 2.0, 3.0]))
    grown = buffers.copy("odd", torch.zeros(100))
    assert grown.shape == (100,)


def test_small_weights_fill_what_large_ones_leave_of_a_block() -> None:
    """Blocks of 1024 bytes: 768 leave 256, a second 768 begin a block, and 256 fill the first. One of 2048 has its own."""
    buffers, sizes = HostBuffers(pinned=False, block=1024), {"a": 768, "b": 768, "c": 256, "d": 2048, "e": 256}
    weights = {name: torch.full((size,), number, dtype=torch.uint8) for number, (name, size) in enumerate(sizes.items())}
    places = {name: buffers.copy(name, weight) for name, weight in weights.items()}
    assert buffers.size == 2 * 1024 + 2048
    assert all(torch.equal(place, weights[name]) for name, place in places.items()), "none is written over"


@pytest.mark.parametrize("kept", [False, True])
def test_the_steps_taken_meanwhile_are_not_published(run: Run, model: Path, kept: bool) -> None:
    """The version on its way is that of its step, whatever the next step does, also where its memory is kept as beside a GPU;
    and a checkpoint that is written meanwhile is not written over."""
    sink, arrays = run.sink, dict[int, dict[str, np.ndarray]]()
    there, may = threading.Event(), threading.Event()
    publish = sink.publish

    def slow(weights: PublishedWeights) -> None:
        there.set()
        assert may.wait(60)
        arrays[weights.version] = {name: array.copy() for name, array in weights.arrays.items()}
        publish(weights)

    learner = run.grpo(config(model, learner={"checkpoint_every": 1, "zero_stage": 1}))
    if kept:
        learner._buffers = HostBuffers(pinned=False, block=1 << 16)  # many weights in one block, as on a GPU
    sink.publish = slow  # type: ignore[method-assign]
    run.feed(2)
    trained(learner.step(5.0))
    assert there.wait(60)
    assert run.ledger.version() == 1
    learner._update.apply([experience(8, 0), experience(9, 0)])  # the optimiser's next step, before it is out
    may.set()
    learner._publisher.wait()
    run.sink.published[-1].verify(newer_than=run.sink.published[0].edition)
    learner._finish_writing()
    saved = load_file(run.folder / "policy" / "version-000001" / "model" / "model.safetensors")
    assert all(np.array_equal(saved[name], arrays[1][name]) for name in arrays[1])
    learner.close()
