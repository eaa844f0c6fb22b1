"""A long run of `tiny`: does the memory of its processes, of Redis and of the object store stay flat?

    python -m tests.bench.long_run                 2,000 steps: most of an hour on two cores; no part of `make bench`
    python -m tests.bench.long_run --steps 30      shows that it works

Every PERIOD_S it notes, beside the policy version: private memory (USS) of each process by its role, resident memory of Ray's
daemon, into which the object store is mapped, `used_memory` and keys of Redis, and bytes of the run folder. From a third of
the steps on a line is laid through each series. Exits with 1 where memory or keys grow by more than ALLOWED.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import linear_regression

import psutil
import redis

from buffer import streams
from buffer.heartbeat import last_heartbeats
from buffer.ledger import Ledger
from buffer.server import driver_url
from buffer.streams import Address, ServerError
from tests.launch import whole_run

PERIOD_S, LIMIT_S = 1.0, 3 * 3600.0
# A policy that learned would solve `tiny` within 200 steps; then twenty groups are sampled for one that teaches, and a step
# takes seconds.
UNSOLVED = "grpo.lr=1e-12"
OPTIONS = (
    UNSOLVED,
    "cold_start.enabled=false",
    "eval.votes=[]",
    "eval.every=0",
    "data.heldout_limit=8",
    "learner.checkpoint_every=50",
)
ALLOWED = {"MiB": 20.0, "keys": 1.0}  # growth in 1,000 steps, by unit; the run folder's is stated: metrics.jsonl has to grow
Series = dict[str, list[tuple[int, float]]]  # {what, unit: (version, value)}


def note(series: Series, folder: Path, driver: int) -> None:
    """Add the values of this moment; none, or some of them, while there is no server yet or no longer."""
    with suppress(ServerError, redis.RedisError, psutil.Error), ExitStack() as stack:
        address = Address(driver_url(folder / "redis"), folder.name)
        client = stack.enter_context(streams.connect(address))
        if not streams.in_use(client, folder.name):
            return
        version = Ledger(client, folder.name).version()
        for name, heartbeat in last_heartbeats(client, folder.name).items():
            series[f"{name}, MiB"].append((version, psutil.Process(heartbeat.pid).memory_full_info().uss / 2**20))
        raylets = [each for each in psutil.Process(driver).children(recursive=True) if each.name() == "raylet"]
        series["object store, MiB"].append((version, sum(each.memory_info().rss for each in raylets) / 2**20))
        series["redis, MiB"].append((version, int(client.info("memory")["used_memory"]) / 2**20))
        keys = client.scan_iter(match=streams.key(folder.name, "*"), count=1000)
        series["redis, keys"].append((version, sum(b":request:" not in name for name in keys)))  # those expire
        files = [path for path in folder.rglob("*") if path.is_file()]
        series["run folder, MB on disk"].append((version, sum(path.stat().st_size for path in files) / 1e6))


def watch(process: subprocess.Popen[str], folder: Path) -> Series:
    """Note until the run ends."""
    series: Series = defaultdict(list)
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the run did not end within {LIMIT_S / 3600:.0f} h")
        with suppress(FileNotFoundError):  # a file of the run that was replaced while it was looked at
            note(series, folder, process.pid)
        time.sleep(PERIOD_S)
    return series


def growth(series: Series, steps: int) -> dict[str, float]:
    """Return the growth of each series in 1,000 steps, from a third of the steps on; 0 where there is one version only."""
    grown = dict[str, float]()
    for name, points in series.items():
        late = [point for point in points if point[0] >= steps / 3]
        grown[name] = 1000 * linear_regression(*zip(*late, strict=True)).slope if len({at for at, _ in late}) > 1 else 0.0
    return grown


def exceeded(grown: dict[str, float]) -> list[str]:
    """Return what grew by more than it may, in words."""
    return [
        f"{name}: {value:+.1f} in 1,000 steps, at most {ALLOWED[unit]:g}"
        for name, value in grown.items()
        if value > ALLOWED.get(unit := name.rpartition(", ")[2], float("inf"))
    ]


def run(steps: int) -> Series:
    """Run `tiny`, and return what was noted."""
    with tempfile.TemporaryDirectory(prefix="spct-long-") as place:
        folder, printed = Path(place) / "long", Path(place) / "printed.txt"
        with printed.open("w") as output:
            process = whole_run.start(Path(place), folder.name, *OPTIONS, f"grpo.steps={steps}", output=output)
            try:
                series = watch(process, folder)
            finally:
                ended = whole_run.finish(process, folder, timeout_s=120)
        if ended.status:
            raise RuntimeError(f"the run failed:\n{printed.read_text()}")
        return series


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps; fewer than some hundreds say little")
    steps = parser.parse_args().steps
    series = run(steps)
    grown = growth(series, steps)
    for name, points in series.items():
        print(f"{name}: {points[0][1]:.1f} at first, {points[-1][1]:.1f} at last, {grown[name]:+.2f} in 1,000 steps")
    print(json.dumps({name: round(value, 3) for name, value in grown.items()}))
    faults = exceeded(grown)
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
