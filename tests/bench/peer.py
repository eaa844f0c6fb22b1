"""The whole task of `tiny`, beside another trainer: from the start of the process to a held-out accuracy of 90 %.

    python -m tests.bench.peer [--quick]
    TRL_PYTHON=VENV/bin/python python -m tests.bench.peer     beside TRL's GRPOTrainer (tests/bench/trl_task.py)

Both train the base that ships with the project by GRPO alone (no cold start, no meta-RM): the same preferences, in the same
order and as the same prompt ids, one order of the responses a group, the same rule, G, groups of a step, learning rate, warm-up
and β, on all cores of the machine. Ours is `launch/run.py` as it is: it overlaps, and trains informative groups only. TRL
generates with transformers. Both judge the same held-out preferences greedily every `Task.every` steps. A round is a seed.

- seconds: from the start of the process to the end of the first evaluation that finds `Task.goal` right. Our evaluations run
  beside the training and are counted; TRL's clock stands still meanwhile. The ratio is that of speeds: their seconds over ours.
- completions: those of a step over the mean seconds of a step, without the first SKIPPED steps and TRL's evaluations.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.load import load
from grm.preferences import Preference
from grm.sources import load as load_preferences
from launch.judging.vote_plan import vote_plan
from launch.setup.prompt_source import prompt_template
from tests.bench.rollout import Prompts
from tests.bench.side_by_side import Measured, main, turns
from tests.launch import whole_run

HELDOUT = "tinyheld:2:{}:2"
SKIPPED = 3  # first steps, in which caches are cold and the pipeline fills
LIMIT_S = 400.0  # of one try


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be reached."""

    goal: float = 0.9
    """Held-out accuracy."""
    judged: int = 128
    """Held-out preferences."""
    every: int = 5
    """Steps between two evaluations."""
    steps: int = 100
    """After which a try has failed."""

    def options(self, seed: int) -> list[str]:
        """Return the overrides of `tiny`."""
        evaluation = [f"eval.every={self.every}", f"eval.during_limit={self.judged}", "eval.votes=[]", "eval.both_orders=false"]
        alone = ["cold_start.enabled=false", "meta_rm.enabled=false", "rollout.orders=1"]
        return [
            *evaluation,
            *alone,
            f"data.heldout=[{HELDOUT.format(self.judged)}]",
            f"grpo.steps={self.steps}",
            f"run.seed={seed}",
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """What came of one try."""

    seconds: float
    """To the goal."""
    rate: float
    """Completions trained a second."""


def first_at(goal: float, found: Sequence[tuple[int, float]]) -> int | None:
    """Return the version of the first evaluation that reaches the goal; None where none does. Version 0 was not trained.

    >>> first_at(0.9, [(0, 0.95), (5, 0.7), (10, 0.9), (15, 0.8)])
    10
    """
    return next((version for version, accuracy in found if version > 0 and accuracy >= goal), None)


def rate(completions: int, seconds: Sequence[float]) -> float:
    """Return completions/s of steps that took so long; the first SKIPPED do not count where there are more.

    >>> rate(64, [9.0, 9.0, 9.0, 1.0, 3.0])
    32.0
    """
    return completions / fmean(seconds[SKIPPED:] or seconds)


def ours(folder: Path, task: Task, seed: int) -> Try:
    """Run `tiny` until the goal is reached."""
    config, name = load("tiny", task.options(seed)), f"ours-{len(list(folder.iterdir()))}"
    began, printed = time.monotonic(), folder.parent / f"{name}.txt"
    with printed.open("w") as output:
        process = whole_run.start(folder, name, *task.options(seed), output=output)
        try:
            while (version := first_at(task.goal, evaluations(folder / name))) is None:
                if process.poll() is not None or time.monotonic() - began > LIMIT_S:
                    known = evaluations(folder / name)
                    raise RuntimeError(f"our run did not reach {task.goal:.0%}, but {known}:\n{printed.read_text()}")
                time.sleep(0.1)
            seconds = time.monotonic() - began
        finally:
            process.terminate()
            whole_run.finish(process, folder / name, timeout_s=120)
    steps = [row["time/step_s"] for row in metrics(folder / name) if row.get("learner/version", version + 1) <= version]
    return Try(seconds=seconds, rate=rate(config.grpo.batch_groups * config.rollout.samples, steps))


def metrics(run: Path) -> list[dict[str, float]]:
    """Return what a run has recorded so far, without a line that is being written."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line)["metrics"] for line in lines if line.endswith("\n")]


def evaluations(run: Path) -> list[tuple[int, float]]:
    """Return version and accuracy of a run's evaluations so far."""
    rows = [row for row in metrics(run) if "eval/accuracy@1" in row]
    return [(round(row["eval/version"]), row["eval/accuracy@1"]) for row in rows]


def plan_of(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """Return all that another trainer needs to do the task: token ids and numbers."""
    config = load("tiny", task.options(seed))
    prompts = Prompts(config)
    train = {p.question.id: p for name in config.data.train for p in load_preferences(name).preferences}
    heldout = [p for name in config.data.heldout for p in load_preferences(name).preferences]
    return {
        "model": prompts.model,
        "end": prompts.tokenizer.end_token,
        "folder": str(folder),
        "train": [
            row(train[prompt.preference], prompt.views[0].permutation, prompt.views[0].token_ids)
            for prompt, _ in prompts.next(task.steps * config.grpo.batch_groups)
        ],
        "heldout": judged_rows(config, prompts, heldout),
        "goal": task.goal,
        "every": task.every,
        "steps": task.steps,
        "seed": seed,
        "groups": config.grpo.batch_groups,
        "samples": config.rollout.samples,
        "max_new_tokens": config.rollout.max_new_tokens,
        "temperature": config.rollout.temperature,
        "lr": config.grpo.lr,
        "warmup_steps": config.grpo.warmup_steps,
        "grad_clip": config.grpo.grad_clip,
        "beta": config.grpo.beta,
        "threads": len(os.sched_getaffinity(0)),
    }


def judged_rows(config: Any, prompts: Prompts, preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """Return what an evaluation while training asks: one greedy judgement of each preference."""
    plan = replace(vote_plan(config, prompt_template(config), 0), both_orders=False)
    escape = prompts.tokenizer.escape_special_tokens
    asked = [(p, each) for p in preferences for each in plan.greedy(p.question, escape)]
    return [row(p, each.permutation, prompts.tokenizer.encode(each.request.message)) for p, each in asked]


def row(preference: Preference, permutation: tuple[int, ...], token_ids: Sequence[int]) -> dict[str, Any]:
    return {"ids": [*token_ids], "permutation": [*permutation], "label": preference.label}


def trl(python: str, task: Task, seed: int) -> Try:
    """Let TRL train until the goal is reached."""
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as place:
        plan, file = plan_of(task, seed, Path(place)), Path(place) / "plan.json"
        file.write_text(json.dumps(plan | {"began": time.time()}))
        command = [python, "-m", "tests.bench.trl_task", str(file)]
        ended = subprocess.run(command, cwd=whole_run.ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT_S)
    rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"version"')]
    found = [(line["version"], line["accuracy"]) for line in rows if "accuracy" in line]
    version = first_at(task.goal, found)
    if version is None:
        raise RuntimeError(f"TRL did not reach {task.goal:.0%} in {task.steps} steps, but {found}")
    steps = [line["seconds"] for line in rows if "seconds" in line and line["version"] <= version]
    clock = next(line["clock"] for line in rows if "accuracy" in line and line["version"] == version)
    return Try(seconds=clock, rate=rate(plan["groups"] * plan["samples"], steps))


def measure(quick: bool) -> list[Measured]:
    python = os.environ.get("TRL_PYTHON", "")
    task = Task(goal=0.0, judged=8, every=1, steps=3) if quick else Task()
    if not python:
        print("peer: TRL_PYTHON names no environment with TRL, so nothing is compared with it", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="spct-bench-") as place:
        runs = Path(place) / "runs"
        runs.mkdir()
        sides: dict[str, Callable[[Task, int], Try]] = {"ours": partial(ours, runs)}
        if python:
            sides["trl"] = partial(trl, python)
        seeds = {name: itertools.count() for name in sides}
        contenders = {name: lambda name=name: sides[name](task, next(seeds[name])) for name in sides}
        found = turns(1 if quick else 2, contenders, warm_up=0)
    mine = found["ours"]
    measured = [
        Measured(figure="peer seconds", unit="s", ours=tuple(each.seconds for each in mine)),
        Measured(figure="peer completions", unit="completions/s", ours=tuple(each.rate for each in mine)),
    ]
    if python:
        hours = [tuple(3600 / each.seconds for each in found[name]) for name in ("ours", "trl")]
        rates = [tuple(each.rate for each in found[name]) for name in ("ours", "trl")]
        measured.append(Measured(figure="peer seconds trl", unit="tasks/h", ours=hours[0], against=hours[1]))
        measured.append(Measured(figure="peer completions trl", unit="completions/s", ours=rates[0], against=rates[1]))
    return measured


if __name__ == "__main__":
    main(measure, __doc__)
