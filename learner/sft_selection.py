"""Which version of the fine-tuning is its result (pure, standard library).

loss      the lowest held-out loss
accuracy  the highest judging accuracy, and of equal ones the lowest held-out loss
last      the last one, as in the paper (arXiv:2504.02495)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A version of the fine-tuned policy, as it was measured."""

    version: int
    """Optimiser steps."""
    loss: float
    """Held-out loss, in nats per completion token."""
    accuracy: float | None
    """Share of right greedy judgements, 0..1; None where judgements are not asked for."""


def by_loss(measured: Measured) -> tuple[float, ...]:
    """Return its rank: higher is better."""
    return (-measured.loss,)


def by_accuracy(measured: Measured) -> tuple[float, ...]:
    """Return its rank: higher is better. Accuracies of a few dozen judgements are often equal, so the loss decides then.

    Raises:
        ValueError: it has no accuracy.
    """
    if measured.accuracy is None:
        raise ValueError(f"version {measured.version} was not judged, so cold_start.select=accuracy cannot rank it")
    return (measured.accuracy, -measured.loss)


def by_version(measured: Measured) -> tuple[float, ...]:
    """Return its rank: later is better."""
    return (float(measured.version),)


SELECTIONS: Mapping[str, Callable[[Measured], tuple[float, ...]]] = {
    "loss": by_loss,
    "accuracy": by_accuracy,
    "last": by_version,
}
"""By the value of `cold_start.select`."""
