"""A snapshot does not change with what it was taken of, and has no more bytes; there must be room for it."""

import socket
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from learner import snapshot


def test_nothing_that_changes_later_changes_it() -> None:
    flat = torch.arange(6.0)
    state = OrderedDict(tied=[flat[:4].view(2, 2), flat[:4].view(2, 2)], tail=(flat[4:], "text", {"step": 3}))
    taken = snapshot.on_cpu(state)
    flat.fill_(-1)
    state["tail"][2]["step"] = 4
    assert type(taken) is OrderedDict
    assert torch.equal(taken["tied"][0], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert taken["tail"][1:] == ("text", {"step": 3})
    assert torch.equal(taken["tail"][0], torch.tensor([4.0, 5.0]))


def test_views_of_one_storage_stay_views_of_one() -> None:
    weight = torch.ones(4, 5, dtype=torch.bfloat16)
    taken = snapshot.on_cpu({"embedding": weight, "head": weight.T, "parameter": torch.nn.Parameter(weight)})
    pointers = {tensor.untyped_storage().data_ptr() for tensor in taken.values()}
    assert len(pointers) == 1
    assert weight.untyped_storage().data_ptr() not in pointers
    assert taken["head"].shape == (5, 4)
    assert type(taken["parameter"]) is torch.Tensor


def test_the_room_is_half_of_what_is_free_and_counts_all_ranks_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "free_memory", lambda: 100)
    here = socket.gethostname()
    assert snapshot.have_room({here: 50, "elsewhere": 1000})
    assert not snapshot.have_room({here: 51})


def test_a_container_has_the_memory_of_its_limit(tmp_path: Path) -> None:
    assert snapshot.free_memory(tmp_path / "none") > 1 << 20
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\n")
    assert snapshot.free_memory(tmp_path) == 1000 - 700 + 200
    (tmp_path / "memory.max").write_text("max\n")
    assert snapshot.free_memory(tmp_path) > 1 << 20
