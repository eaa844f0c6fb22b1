"""How the driver drives: every part works in slices that return values, and is given the next slice when one ends.

    submit ─▶ [ part: work for a second ] ─▶ listen: collect, hear, submit again

An error inside a part surfaces here, with the part's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

SLICE_S = 1.0


class PartFailed(RuntimeError):
    """A part of the run ended with an error; the message names it."""


@dataclass(slots=True)
class Part:
    """Actors whose method is called together; one slice is over when all have answered. The first one reports."""

    name: str
    actors: Sequence[Any]
    method: str
    heard: Callable[[Any], None]
    refs: list[Any] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    def submit(self) -> None:
        self.refs = [getattr(actor, self.method).remote(SLICE_S) for actor in self.actors]

    def collect(self) -> None:
        try:
            report = ray.get(self.refs)[0]
        except ray.exceptions.RayError as error:
            raise PartFailed(f"{self.name} failed: {error}") from error
        self.refs, self.last = [], time.monotonic()
        if report is not None:
            self.heard(report)


def listen(parts: Sequence[Part]) -> list[Part]:
    """Wait up to a slice for parts to finish theirs, and let them be heard; those that did."""
    owners = {ref: part for part in parts for ref in part.refs}
    done, _ = ray.wait(list(owners), num_returns=1, timeout=SLICE_S)
    heard = [part for part in {id(owners[ref]): owners[ref] for ref in done}.values() if all_ready(part.refs)]
    for part in heard:
        part.collect()
    return heard


def all_ready(refs: Sequence[Any]) -> bool:
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    return len(ready) == len(refs)


def ages(parts: Sequence[Part]) -> str:
    """When each part was last heard of, for the message of a wait that came to nothing."""
    now = time.monotonic()
    return ", ".join(f"{part.name} {now - part.last:.0f} s ago" for part in parts)
