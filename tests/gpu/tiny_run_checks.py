"""The whole method on the small world, all parts on one card: cold start, RL with a meta-RM, evaluations, votes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gpu.figures import Figure
from tests.gpu.parts import Device
from tests.gpu.whole_runs import figures_of_run
from tests.launch.whole_run import SPCT

STEPS = {"cpu": 3, "cuda": 10}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Where a run is made."""

    device: Device
    """Where it computes."""
    folder: Path
    """For its folder."""


@contextmanager
def prepared(device: Device, folder: Path) -> Iterator[Subject]:
    yield Subject(device=device, folder=folder)


def all_parts_run_on_one_card(subject: Subject) -> Iterator[Figure]:
    yield from figures_of_run(subject.device, subject.folder, "tiny", *SPCT, f"grpo.steps={STEPS[subject.device]}")


CHECKS = (all_parts_run_on_one_card,)
