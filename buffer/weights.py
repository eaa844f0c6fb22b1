"""What the learner publishes and rollout actors pull: arrays with a version and a checksum.

    learner ── seal ──▶ WeightSink.publish ══ transport ══▶ WeightSource.pull ── verify ──▶ engine of a rollout actor

The transport (Ray's object store, a file in shared memory) carries `PublishedWeights` unchanged. The rollout actor verifies
them before use, so stale or torn weights never reach an engine.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

Array = NDArray[Any]

# dtype of the weights -> dtype of the array that carries them (numpy has no bfloat16: its bits go as int16)
CARRIER: Mapping[str, str] = MappingProxyType({"bfloat16": "int16", "float16": "float16", "float32": "float32"})


class WeightsRefused(RuntimeError):
    """The weights must not be loaded: their version is stale, or their checksum is wrong."""


class Edition(NamedTuple):
    """The order of published weights: by incarnation, then by version.

    A learner that went back to its checkpoint publishes an older policy version, in a newer edition.
    """

    incarnation: int
    """Number of the learner's start."""
    version: int
    """Policy version, >= 0."""


NONE = Edition(-1, -1)  # older than the first edition


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What the learner computes for a few fixed tokens with these weights: an engine that has loaded them finds the same."""

    token_ids: tuple[int, ...]
    """At least two tokens, which are read as a prompt."""
    logprobs: tuple[float, ...]
    """log pi(token | the tokens before it) at temperature 1, of each token but the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterShape:
    """What an engine must know of LoRA adapters beside their arrays: y = W x + (alpha / rank) B A x."""

    rank: int
    """Rows of A and columns of B, >= 1."""
    alpha: int
    """Numerator of the factor."""
    targets: tuple[str, ...]
    """Last names of the layers that have an adapter, as `q_proj`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedWeights:
    """One published edition of the policy's weights."""

    incarnation: int
    """Number of the start of the learner that published them."""
    version: int
    """Policy version, >= 0."""
    arrays: Mapping[str, Array]
    """Read-only arrays by name, as a checkpoint of the model has them."""
    dtypes: Mapping[str, str]
    """dtype of each parameter: a key of CARRIER."""
    checksum: str
    """Over version, names, dtypes, shapes, bytes and `adapters`."""
    probe: Probe | None = None
    """What an engine must compute with them; None: nothing is compared."""
    adapters: AdapterShape | None = None
    """The arrays are LoRA adapters beside the weights that the engine was built with; None: they are the whole weights."""

    @property
    def edition(self) -> Edition:
        """Their place in the order of editions."""
        return Edition(self.incarnation, self.version)

    def verify(self, *, newer_than: Edition) -> None:
        """Raise WeightsRefused unless they are newer than this edition and unchanged since `seal`."""
        if self.edition <= newer_than:
            loaded = f"version {newer_than.version} is loaded"
            raise WeightsRefused(f"weights of version {self.version} are stale: {loaded}; pull again")
        actual = _checksum(self.version, self.arrays, self.dtypes, self.adapters)
        if actual != self.checksum:
            raise WeightsRefused(
                f"weights of version {self.version} are torn: checksum {actual} instead of {self.checksum}; "
                "they were changed or cut after they were sealed: pull again, never write to the arrays"
            )


class WeightSink(Protocol):
    """Where a learner publishes its weights."""

    def publish(self, weights: PublishedWeights) -> None:
        """Publish weights. From now on every source returns these or newer ones."""
        ...

    def republish_if_lost(self) -> None:
        """Publish the newest weights again if the transport has lost them."""
        ...


class WeightSource(Protocol):
    """Where a rollout actor gets newer weights."""

    def newest(self) -> Edition:
        """Return the newest published edition; `NONE` before the first."""
        ...

    def pull(self) -> PublishedWeights | None:
        """Return the newest weights, not yet verified.

        None if they were lost with the learner that had published them: its successor will publish again.
        """
        ...


def seal(
    version: int,
    arrays: Mapping[str, Array],
    dtypes: Mapping[str, str],
    *,
    incarnation: int = 0,
    probe: Probe | None = None,
    adapters: AdapterShape | None = None,
) -> PublishedWeights:
    """Return weights ready to publish: read-only views of the arrays (copies where not contiguous), with a checksum.

    The caller must not write to the arrays afterwards: `verify` would refuse them.

    Raises:
        ValueError: The version is negative, the names differ, or an array does not have the carrier of its dtype.
    """
    if version < 0:
        raise ValueError(f"version {version}: expected 0 or more")
    if arrays.keys() != dtypes.keys():
        odd = ", ".join(sorted(arrays.keys() ^ dtypes.keys())[:5])
        raise ValueError(f"arrays and dtypes must have the same names; only one of them has {odd}")
    sealed = {name: _read_only(name, arrays[name], dtypes[name]) for name in sorted(arrays)}
    kinds = {name: dtypes[name] for name in sealed}
    return PublishedWeights(
        incarnation=incarnation,
        version=version,
        arrays=sealed,
        dtypes=kinds,
        checksum=_checksum(version, sealed, kinds, adapters),
        probe=probe,
        adapters=adapters,
    )


def _read_only(name: str, array: Array, dtype: str) -> Array:
    carrier = CARRIER.get(dtype)
    if carrier is None or array.dtype.name != carrier:
        known = ", ".join(f"{carrier} for {dtype}" for dtype, carrier in CARRIER.items())
        raise ValueError(f"{name}: {array.dtype} array for dtype {dtype!r}; expected {known}")
    view = np.ascontiguousarray(array).reshape(array.shape).view()
    view.flags.writeable = False
    return view


def _checksum(
    version: int, arrays: Mapping[str, Array], dtypes: Mapping[str, str], adapters: AdapterShape | None = None
) -> str:
    """Return blake2b over the version, the adapters' shape and, in order of name, each array's name, dtypes, shape and xxh3.

    It protects against accidents, not against attacks. It runs at 10 GB/s and more, and lets other threads run.
    """
    total = hashlib.blake2b(str(version).encode(), digest_size=16)
    if adapters is not None:
        total.update(repr(adapters).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest = xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        total.update(f"\n{name}\n{dtypes.get(name)}\n{array.dtype.str}\n{array.shape}\n{digest}".encode())
    return total.hexdigest()
