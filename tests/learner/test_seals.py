"""A file that is sealed while it is written has the seal that reading it gives; what torch writes can be read."""

from pathlib import Path

import pytest
import torch
import xxhash

from learner import seals
from learner.checkpoint_writer import write_state
from learner.seals import SealedFile


def test_its_seal_is_that_of_the_file(tmp_path: Path) -> None:
    with SealedFile(tmp_path / "x") as file:
        for part in (b"some", b"", b" bytes"):
            file.write(part)
    assert (tmp_path / "x").read_bytes() == b"some bytes"
    assert file.seal == [10, xxhash.xxh3_64_intdigest(b"some bytes")]
    assert seals.seal(tmp_path, ["x"]) == {"x": file.seal}
    assert seals.mismatch(tmp_path, {"x": file.seal}) == ""


def test_what_torch_writes_is_sealed_and_read_back(tmp_path: Path) -> None:
    state = {"large": torch.arange(3 << 20), "small": [torch.ones(3), 7], "view": torch.arange(6).view(2, 3)[1]}
    sealed = write_state(state, tmp_path / "state.pt")
    assert seals.mismatch(tmp_path, {"state.pt": sealed}) == ""
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(read["large"], state["large"])
    assert torch.equal(read["view"], torch.tensor([3, 4, 5]))


def test_a_disk_that_is_full_in_the_middle_is_an_os_error(tmp_path: Path) -> None:
    """The kernel's own: a file of a device that is always full."""
    with pytest.raises((OSError, RuntimeError), match=r"No space left|inline_container"):
        write_state({"x": torch.zeros(1 << 20)}, Path("/dev/full"))
