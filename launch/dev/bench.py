"""Measure the speed-up by asynchrony: `tiny` with max_staleness 0 and 1, run in turn (`make bench`).

On a shared machine the time of one run means little; the ratio of two runs that follow each other does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ENTRY = Path(__file__).resolve().parents[1] / "run.py"
SKIPPED = 3  # first steps, during which caches are cold and the pipeline fills


def seconds_per_step(staleness: int, steps: int, folder: Path) -> float:
    """Run `tiny`, and return the mean seconds from one policy version to the next.

    A median would mislead: at eta > 0 quick and slow steps alternate.
    """
    name = f"eta{staleness}-{len(list(folder.iterdir()))}"
    small = ["eval.every=0", "data.heldout_limit=8", "cold_start.enabled=false", "eval.votes=[]"]
    overrides = [f"grpo.max_staleness={staleness}", f"grpo.steps={steps}", *small]
    command = [sys.executable, str(ENTRY), "--config", "tiny", f"run.dir={folder}", f"run.id={name}", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line)["metrics"] for line in lines]
    return statistics.fmean([record["time/step_s"] for record in records if "time/step_s" in record][SKIPPED:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2, help="pairs of runs")
    parser.add_argument("--steps", type=int, default=25, help=f"optimiser steps of a run; the first {SKIPPED} do not count")
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(1, arguments.pairs + 1):
            synchronous = seconds_per_step(0, arguments.steps, Path(folder))
            asynchronous = seconds_per_step(1, arguments.steps, Path(folder))
            ratios.append(synchronous / asynchronous)
            seconds = f"{synchronous:.2f} s a step at eta 0, {asynchronous:.2f} s at eta 1"
            print(f"pair {pair}: {seconds}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
