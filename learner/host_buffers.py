"""Memory of the CPU that takes the weights of one version after another from a GPU.

It is page-locked, so that a copy runs at the speed of the bus and without the CPU, and it is kept: to lock pages takes longer
than to fill them.
"""

import torch
from torch import Tensor

BLOCK = 1 << 30  # bytes; torch rounds what it locks up to a power of two
ALIGNMENT = 64  # bytes


class HostBuffers:
    """A place for each weight. The copies of a version are whole after `complete`, and until the next one is copied."""

    def __init__(self, *, pinned: bool, block: int = BLOCK) -> None:
        """Lock no memory yet.

        Args:
            pinned: page-locked, which takes a GPU.
            block: bytes of memory that weights share, if it holds more than one.
        """
        self._pinned, self._block_bytes = pinned, block
        self._places: dict[str, Tensor] = {}
        self._rests: list[Tensor] = []  # of each block, what no weight has
        self.size = 0
        """Bytes of all blocks."""

    def copy(self, name: str, tensor: Tensor) -> Tensor:
        """Begin to copy a weight into its place, behind what the GPU computes already; return the place."""
        place = self._places.get(name)
        if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
            place = self._places[name] = self._carved(tensor)
        return place.copy_(tensor.detach(), non_blocking=True)

    def complete(self) -> None:
        """Return when all copies that were begun are whole: the weights may then change."""
        if self._pinned:
            torch.cuda.current_stream().synchronize()

    def _carved(self, tensor: Tensor) -> Tensor:
        """Return a place in the first block that has room for it: the ends that large weights leave hold small ones."""
        bytes_ = tensor.numel() * tensor.element_size()
        size = -(-bytes_ // ALIGNMENT) * ALIGNMENT
        number = next((number for number, rest in enumerate(self._rests) if rest.numel() >= size), len(self._rests))
        if number == len(self._rests):
            self._rests.append(torch.empty(max(self._block_bytes, size), dtype=torch.uint8, pin_memory=self._pinned))
            self.size += self._rests[-1].numel()
        rest = self._rests[number]
        self._rests[number] = rest[size:]
        return rest[:bytes_].view(tensor.dtype).view(tensor.shape)
