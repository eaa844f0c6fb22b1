"""How throughput follows the number of workers, with the driver, Ray, Redis and all actors of a run, and fake engines.

    python -m tests.bench.scaling [--quick]

An engine holds PLACES groups and takes GROUP_S for each, whatever else it does, so a worker's own rate is PLACES / GROUP_S. The
learner is fake, too: 5 ms a step, and a small checkpoint. Workers join and leave a run that goes on: 1, 4, 16, 64, then back,
so each number is measured twice. The value is groups scored a second; against it, the workers' own rates together. Below 1,
something else is the bound: the note names the process that took most of a core, and how much of all cores was taken. Each
actor asks Ray for a hundredth of a core in place of a tenth, as two cores would hold 16 workers else.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import psutil

from buffer.connection import key
from buffer.streams import EXPERIENCE
from configs.load import load
from configs.schema import Config
from launch.cluster import actor_places
from tests.bench.figures import WORKERS
from tests.bench.side_by_side import Measured, main
from tests.chaos.actors import FakeActors
from tests.chaos.elastic import Meter, play

PLACES = 4
GROUP_S = FakeActors.seconds
CPU_SHARE = 0.01


def config(most: int) -> Config:
    """Return a run whose credit fills the engines of `most` workers."""
    return load(
        "tiny",
        [
            f"grpo.batch_groups={PLACES * most // 2 or 1}",
            "grpo.steps=1000000",
            "grpo.max_staleness=5",
            "rollout.samples=2",
            f"rollout.max_groups={PLACES}",
            "meta_rm.enabled=false",
            "learner.checkpoint_every=1",
            "eval.every=0",
            "eval.votes=[]",
            "waits.drain_s=2",
            "waits.start_s=300",
        ],
    )


def shares(before: dict[psutil.Process, float], seconds: float) -> dict[str, float]:
    """Return the cores that processes took since `before`, by their names; workers of Ray by the class that they run."""
    taken: dict[str, float] = {}
    for process, spent in cpu_seconds().items():
        if process in before:
            with suppress(psutil.NoSuchProcess), process.oneshot():
                name = (process.cmdline() or [process.name()])[0].partition("(")[0].split("/")[-1] or process.name()
                taken[name] = max(taken.get(name, 0.0), (spent - before[process]) / seconds)
    return taken


def cpu_seconds() -> dict[psutil.Process, float]:
    """Return the processor time of this process and of all that it started."""
    spent = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent[process] = times.user + times.system
    return spent


def scored(actors: FakeActors) -> int:
    """Return the groups that came to the learner. (What is trained comes in whole batches, too coarse for few workers.)"""
    return int(actors.redis.xinfo_stream(key(actors.address.run_id, EXPERIENCE))["entries-added"])


def rates(sequence: Sequence[int], *, seconds: float, settle_s: float) -> tuple[dict[int, list[float]], dict[int, str]]:
    """Let a run have so many workers, one number after the other.

    Args:
        sequence: Numbers of workers.
        seconds: In which groups are counted, for each.
        settle_s: Before that.

    Returns:
        Groups/s, and what was at work, by number.
    """
    found: dict[int, list[float]] = {workers: [] for workers in sequence}
    busiest: dict[int, str] = {}

    def script(meter: Meter) -> None:
        for workers in sequence:
            meter.set_target(workers)
            meter.measure("settling", workers=workers, seconds=0.1, settle_s=settle_s)  # they are there and at work
            before, idle, began, first = cpu_seconds(), psutil.cpu_times().idle, time.monotonic(), scored(meter.actors)
            time.sleep(seconds)
            found[workers].append((scored(meter.actors) - first) / (time.monotonic() - began))
            name, share = max(shares(before, seconds).items(), key=lambda pair: pair[1])
            taken = 1 - (psutil.cpu_times().idle - idle) / (seconds * (os.cpu_count() or 1))
            busiest[workers] = f"{name} took {share:.2f} of a core, all together {taken:.0%} of the machine"

    with tempfile.TemporaryDirectory(prefix="spct-bench-") as place, patch.object(actor_places, "CPU_SHARE", CPU_SHARE):
        play(config(max(sequence)), Path(place), script)
    return found, busiest


def measure(quick: bool) -> list[Measured]:
    up = (1, 4) if quick else WORKERS
    # the largest number twice in a row: it takes minutes until so many processes are there
    sequence = up if quick else (*up, *reversed(up))
    measured, busiest = rates(sequence, seconds=2.0 if quick else 10.0, settle_s=1.0 if quick else 4.0)
    found = []
    for workers, values in measured.items():
        ours = tuple(values)
        own = workers * PLACES / GROUP_S
        found.append(
            Measured(figure=f"scaling {workers}", unit="groups/s", ours=ours, against=(own,) * len(ours), note=busiest[workers])
        )
    return found


if __name__ == "__main__":
    main(measure, __doc__)
