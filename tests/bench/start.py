"""From submitting a run to its first optimiser step, and where the seconds go.

    python -m tests.bench.start [--quick]

A round: `python launch/run.py --config tiny` without cold start and votes, until metrics.jsonl holds a step; and, in turn, a
Python that imports vLLM, builds the engine of the same model, and ends: what a run cannot do without. The parts, as medians:
imports (a Python that imports the driver and ends), then by the run's own clock in `run_state.json`: start (preflight, Redis,
Ray), the first evaluation, the first step. The rest is the start of the actors, which import and build beside each other.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.bench.side_by_side import Measured, main, turns
from tests.launch import whole_run

OPTIONS = ("cold_start.enabled=false", "eval.votes=[]", "eval.every=0", "data.heldout_limit=8", "grpo.steps=1")
ENGINE = """
from tests.bench.rollout import Prompts, bare_engine, config_of
config = config_of("tiny", 8, 32)
bare_engine(Prompts(config).settings(config), packed=False)
"""


def alone(code: str) -> float:
    """Return the seconds of a Python that runs this and nothing else."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=whole_run.ROOT, env=whole_run.environment(), check=True, timeout=300)
    return time.monotonic() - began


def until_first_step(folder: Path) -> tuple[float, dict[str, float]]:
    """Run `tiny` for a step. Return the seconds until it was recorded, and those of each part."""
    imports_s = alone("import launch.driver.pipeline")
    began, name = time.monotonic(), f"run-{len(list(folder.iterdir()))}"
    process = whole_run.start(folder, name, *OPTIONS)
    try:
        whole_run.wait_for(folder / name, "time/step_s", process, timeout_s=300)
        seconds = time.monotonic() - began
    finally:
        ended = whole_run.finish(process, folder / name, timeout_s=300)
    if ended.status:
        raise RuntimeError(f"the run failed:\n{ended.output}")
    return seconds, parts(seconds, imports_s, json.loads((folder / name / "run_state.json").read_text())["seconds"])


def parts(whole_s: float, imports_s: float, stages: dict[str, float]) -> dict[str, float]:
    """Return the seconds of each part, which add up to the whole.

    >>> parts(40.0, 6.0, {"start": 8.0, "evaluate_before": 2.0, "train": 4.0, "total": 41.0})
    {'imports': 6.0, 'start': 8.0, 'first evaluation': 2.0, 'first step': 4.0, 'actors': 20.0}
    """
    known = {
        "imports": imports_s,
        "start": stages["start"],
        "first evaluation": stages["evaluate_before"],
        "first step": stages["train"],
    }
    return known | {"actors": whole_s - sum(known.values())}


def measure(quick: bool) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as folder:
        contenders = {"engine": partial(alone, ENGINE), "run": partial(until_first_step, Path(folder))}
        values = turns(1 if quick else 3, contenders, warm_up=0)
    seconds = tuple(whole for whole, _ in values["run"])
    shares = {name: statistics.median(each[name] for _, each in values["run"]) for name in values["run"][0][1]}
    note = ", ".join(f"{name} {share:.1f}" for name, share in shares.items())
    return [
        Measured(figure="start first step", unit="s", ours=seconds, against=tuple(values["engine"])),
        Measured(figure="start seconds", unit="s", ours=seconds, note=note),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
