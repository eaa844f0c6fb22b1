"""What asynchrony buys: `tiny` with max_staleness 0 and 1, in turn, in one sitting. `make bench`.

A figure of one run says little on a shared machine; the ratio of neighbours in time does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ENTRY = Path(__file__).resolve().parents[1] / "run.py"
SKIPPED = 3  # first steps: caches are cold, the pipeline is filling


def seconds_per_step(staleness: int, steps: int, where: str) -> float:
    """Mean seconds from one policy version to the next (a median would not do: quick and slow steps alternate at eta > 0)."""
    name = f"eta{staleness}-{len(list(Path(where).iterdir()))}"
    small = ["eval.every=0", "data.heldout_limit=8", "cold_start.enabled=false", "eval.votes=[]"]
    overrides = [f"grpo.max_staleness={staleness}", f"grpo.steps={steps}", *small]
    command = [sys.executable, str(ENTRY), "--config", "tiny", f"run.dir={where}", f"run.id={name}", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (Path(where) / name / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line)["metrics"] for line in lines]
    return statistics.fmean([record["time/step_s"] for record in records if "time/step_s" in record][SKIPPED:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=25)
    given = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as where:
        for pair in range(1, given.pairs + 1):
            synchronous = seconds_per_step(0, given.steps, where)
            asynchronous = seconds_per_step(1, given.steps, where)
            ratios.append(synchronous / asynchronous)
            figures = f"{synchronous:.2f} s a step at eta 0, {asynchronous:.2f} at eta 1"
            print(f"pair {pair}: {figures}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
