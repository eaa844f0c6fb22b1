"""What the learner publishes and rollout actors pull: arrays with a version and a checksum.

A transport (Ray's object store, a file in shared memory) carries PublishedWeights unchanged from a
WeightSink to a WeightSource; who pulls verifies them before use, so stale or torn weights never
reach an engine.
"""

import hashlib
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# dtype of the weights -> dtype of the array that carries them (numpy has no bfloat16: its bits go as int16)
CARRIER: Mapping[str, str] = MappingProxyType({"bfloat16": "int16", "float16": "float16", "float32": "float32"})


class WeightsRefused(RuntimeError):
    """Weights that must not be loaded: stale by version, or torn by checksum."""


class Edition(NamedTuple):
    """What orders published weights. A learner that went back to its checkpoint publishes an older policy version in a
    newer edition: ``incarnation`` counts the learner's starts."""

    incarnation: int
    version: int


NONE = Edition(-1, -1)  # before the first


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedWeights:
    """Policy version ``version`` >= 0 by the learner's incarnation: read-only arrays by parameter name, and what their
    bits mean.

    dtypes: for each name a key of CARRIER. checksum: over version, names, dtypes, shapes and bytes.
    """

    incarnation: int
    version: int
    arrays: Mapping[str, Array]
    dtypes: Mapping[str, str]
    checksum: str

    @property
    def edition(self) -> Edition:
        return Edition(self.incarnation, self.version)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def verify(self, *, newer_than: Edition) -> None:
        """WeightsRefused unless their edition > newer_than and the content is what was sealed."""
        if self.edition <= newer_than:
            loaded = f"version {newer_than.version} is loaded"
            raise WeightsRefused(f"weights of version {self.version} are stale: {loaded}; pull again")
        found = _checksum(self.version, self.arrays, self.dtypes)
        if found != self.checksum:
            raise WeightsRefused(
                f"weights of version {self.version} are torn: checksum {found} instead of {self.checksum}; "
                "they were changed or cut after they were sealed: pull again, never write to the arrays"
            )


class WeightSink(Protocol):
    """Where a learner publishes; afterwards every source gives these weights or newer ones."""

    def publish(self, weights: PublishedWeights) -> None: ...

    def republish_if_lost(self) -> None:
        """Publish the newest again, if the place where it lay was lost."""
        ...


class WeightSource(Protocol):
    """Where a rollout actor looks for newer weights."""

    def newest(self) -> Edition:
        """The newest published edition; NONE before the first."""
        ...

    def pull(self) -> PublishedWeights | None:
        """The newest weights, not yet verified; None when they went with the learner that had published them, whose
        successor will publish again."""
        ...


def seal(version: int, arrays: Mapping[str, Array], dtypes: Mapping[str, str], *, incarnation: int = 0) -> PublishedWeights:
    """Weights ready to publish: read-only views of the arrays (copies where not contiguous), checksummed.

    ValueError when version < 0, when names differ, or when an array is not its dtype's carrier. The
    caller must not write to the arrays afterwards: ``verify`` would refuse them.
    """
    if version < 0:
        raise ValueError(f"version {version}: expected 0 or more")
    if arrays.keys() != dtypes.keys():
        odd = ", ".join(sorted(arrays.keys() ^ dtypes.keys())[:5])
        raise ValueError(f"arrays and dtypes must have the same names; only one of them has {odd}")
    sealed = {name: _read_only(name, arrays[name], dtypes[name]) for name in sorted(arrays)}
    kinds = {name: dtypes[name] for name in sealed}
    checksum = _checksum(version, sealed, kinds)
    return PublishedWeights(incarnation=incarnation, version=version, arrays=sealed, dtypes=kinds, checksum=checksum)


def _read_only(name: str, array: Array, dtype: str) -> Array:
    carrier = CARRIER.get(dtype)
    if carrier is None or array.dtype.name != carrier:
        known = ", ".join(f"{carrier} for {dtype}" for dtype, carrier in CARRIER.items())
        raise ValueError(f"{name}: {array.dtype} array for dtype {dtype!r}; expected {known}")
    view = np.ascontiguousarray(array).reshape(array.shape).view()
    view.flags.writeable = False
    return view


def _checksum(version: int, arrays: Mapping[str, Array], dtypes: Mapping[str, str]) -> str:
    """blake2b over the version and, in order of name, each array's name, dtypes, shape and CRC-32.

    It guards against accidents, not against an enemy; several GB/s, in threads (zlib leaves the lock).
    """
    total = hashlib.blake2b(str(version).encode(), digest_size=16)
    names = sorted(arrays)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        sums = pool.map(_crc32, (arrays[name] for name in names))
        for name, crc in zip(names, sums, strict=True):
            array = arrays[name]
            total.update(f"\n{name}\n{dtypes.get(name)}\n{array.dtype.str}\n{array.shape}\n{crc}".encode())
    return total.hexdigest()


def _crc32(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
