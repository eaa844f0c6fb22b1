"""Writes the folder of an invented run through the real tracker, for tests and for looking at the report page.

python tests/launch/page/sample_run.py FOLDER        then open FOLDER/report.html
"""

import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.monitoring.tracker import SampleJudgement, Tracker
from launch.page.run_page import write_report

STEPS, EVERY, BOUND, SECONDS_A_STEP = 120, 20, 4, 3.6
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'single' \x1b[31mred\x1b[0m "
    "\u202egnirts desrever\u202c \x00\x07 \\boxed{10, 1} \ud800 </details></body> שלום 你好"
)


def summary(**changes: Any) -> dict[str, Any]:
    """Returns a completed run's summary.json; `changes` replace whole entries."""
    whole: dict[str, Any] = {
        "run_id": "tiny-20260714-1",
        "preset": "tiny",
        "seed": 1,
        "finished": "completed",
        "accuracy": {"before": 0.5575, "cold_start": 0.64, "after": 0.9125},
        "parse_rate": {"before": 0.945, "cold_start": 0.98, "after": 0.9975},
        "consistency": {"before": 0.35, "cold_start": 0.52, "after": 0.8875},
        "votes": {"cold_start": votes(0.61), "after": votes(0.88)},
        "cold_start": {"verdicts": {"kept": 820, "wrong": 512, "too_easy": 204, "hinted_kept": 430, "hinted_wrong": 82}},
        "baselines": {"chance": 0.5, "longest_answer": 0.5325, "shortest_answer": 0.4675},
        "heldout": {"rows": 400, "n": 2},
        "staleness": {"max": 4, "mean": 2.31, "bound": BOUND},
        "groups": {"issued": 1361, "trained": 960, "filtered": 361, "dropped": 0, "dead_letter": 1},
        "reward": {"first": -0.19, "last": 0.81},
        "idle": {"learner": 0.123, "rollout": 0.034},
        "meta_rm": {"auc": 0.806, "accuracy": 0.77, "examples": 10568},
        "seconds": {"start": 41.2, "evaluate_before": 22.5, "train": 431.9, "evaluate_after": 19.8, "total": 523.0},
        "steps": STEPS,
        "tokens": 681_402,
    }
    return whole | changes


def votes(start: float) -> dict[str, dict[str, float]]:
    """Returns the figures of a policy that voted, as `grm.benchmarks` names them."""
    figures = {"greedy": start + 0.02}
    for doublings in range(6):
        figures |= {f"vote@{2**doublings}": start + 0.012 * doublings, f"guided@{2**doublings}": start + 0.02 * doublings}
    return {
        name: {"value": value, "low": value - 0.03, "high": min(1.0, value + 0.03), "rows": 200}
        for name, value in figures.items()
    }


def records(steps: int = STEPS) -> Iterator[dict[str, float]]:
    """Yields what a driver would log: metrics of the learner, the rollout actors and the meta-RM, and some evaluations."""
    rng = random.Random(7)
    for version in range(steps + 1):
        learnt = 1 / (1 + math.exp(-(version - 45) / 14))
        if version % EVERY == 0:
            yield evaluation_record(rng, version, steps, learnt)
        if version > 0:
            yield learner_record(rng, version, learnt) | rollout_record(rng, version)
            auc = 0.78 + 0.06 * learnt + rng.gauss(0, 0.03) - 0.22 * math.exp(-version / 12)
            yield {"meta_rm/step": version, "meta_rm/auc": min(1.0, auc), "meta_rm/accuracy": min(1.0, auc - 0.04)}


def evaluation_record(rng: random.Random, version: int, steps: int, learnt: float) -> dict[str, float]:
    ends = {0: 0.5575, steps: 0.9125}
    return {
        "eval/version": version,
        "eval/accuracy@1": ends.get(version, 0.5575 + 0.355 * learnt + rng.uniform(-0.012, 0.012)),
        "eval/parse_rate@1": 0.945 + 0.0525 * learnt,
    }


def learner_record(rng: random.Random, version: int, learnt: float) -> dict[str, float]:
    stale = min(BOUND, version - 1, rng.choice((2, 3, 3, 4)))
    waiting = rng.uniform(0.1, 0.7)
    return {
        "learner/version": version,
        "reward/mean": -0.19 + learnt + rng.gauss(0, 0.09),
        "position/consistency": 0.4 + 0.5 * learnt + rng.uniform(-0.05, 0.05),
        "position/first_excess": 0.3 * (learnt - 1) + rng.uniform(-0.03, 0.03),
        "reward/solved_all": 0.1 + 0.45 * learnt + rng.uniform(-0.06, 0.06),
        "reward/solved_none": max(0.0, 0.2 - 0.17 * learnt + rng.uniform(-0.05, 0.05)),
        "parse/failure_rate": max(0.0, 0.06 * (1 - learnt) + rng.uniform(-0.01, 0.012)),
        "staleness/max": stale,
        "staleness/mean": stale * rng.uniform(0.5, 0.8),
        "off_policy/ess": rng.uniform(0.93, 0.99),
        "off_policy/clip_fraction": rng.uniform(0, 0.004),
        "loss/policy": rng.gauss(0, 0.02),
        "loss/kl": 0.9 * learnt**2 + rng.uniform(0, 0.03),
        "policy/entropy": 0.9 - 0.6 * learnt + rng.uniform(-0.03, 0.03),
        "optim/grad_norm": 0.6 + 1.6 * math.exp(-version / 25) + abs(rng.gauss(0, 0.25)),
        "length/truncated_fraction": max(0.0, 0.02 * (1 - learnt) + rng.uniform(-0.005, 0.005)),
        "length/completion_p50": 31 - 4 * learnt + rng.uniform(-1, 1),
        "length/completion_p95": 46 - 6 * learnt + rng.uniform(-2, 2),
        "time/wait_for_experience_s": waiting,
        "time/train_s": rng.uniform(2.4, 3.1),
        "time/publish_s": rng.uniform(0.05, 0.15),
        "idle/learner_ratio": waiting / SECONDS_A_STEP,
    }


def rollout_record(rng: random.Random, version: int) -> dict[str, float]:
    return {
        "idle/rollout_ratio": rng.uniform(0.0, 0.08),
        "throughput/tokens_per_s": 1620 + rng.gauss(0, 110),
        "queue/prompts": rng.randrange(9),
        "groups/lost_hand_offs": version // 40,
        "rollout/request_latency_s": 1.4 + rng.uniform(-0.2, 0.3),
        "rollout/request_latency_p95_s": 2.1 + rng.uniform(-0.2, 0.3),
    }


QUERIES = {  # {preference: (query, responses, label)}
    "tiny-17": (
        "Please keep it short. How many moons does Mars have?",
        (
            "Mars has two moons, Phobos and Deimos. They were found in 1877 by Asaph Hall, and both are small, "
            "dark and irregular; Phobos comes closer to its planet every year.",
            "Two.",
        ),
        1,
    ),
    "tiny-18": (
        "Be polite. My train was late again, what should I write to them?",
        (
            "Dear team, my train was late again today. Could you kindly tell me what happened? " * 9,
            "Tell them that it is a disgrace.",
            "Train late. Explain.",
        ),
        0,
    ),
    "tiny-19": (HOSTILE, (HOSTILE, "plain"), 1),
}
WEAK = "Accuracy 40 %, detail 40 %, tone 20 %"
STRONG = "Brevity 80 %: the query asks for it in so many words. Accuracy 20 %"


def samples() -> list[SampleJudgement]:
    """Returns judgements of three preferences, before, during and after; one does not parse, one is hostile throughout."""
    rows = []
    for preference, (query, responses, label) in QUERIES.items():
        common: dict[str, Any] = {"preference": preference, "query": query, "responses": responses, "label": label}
        right = common | {"scores": tuple(9 if i == label else 4 - i for i in range(len(responses))), "reward": 1.0}
        wrong = common | {"scores": tuple(3 if i == label else 6 for i in range(len(responses))), "reward": -1.0}
        strong = STRONG
        critique = "The query sets the principle, and only one response follows it. " * 8
        if preference == "tiny-18":
            text = "Specific Criteria:\n1. tone 1. tone 1. tone 1. tone 1. tone"
            wrong |= {"principles": "", "critique": "", "scores": (), "failure": "no_box", "completion": text}
        else:
            wrong |= {"principles": WEAK, "critique": "Response 1 says more and says it well, Response 2 is thin. " * 4}
        if preference == "tiny-19":
            strong = critique = HOSTILE
        rows.append(SampleJudgement(when="before", version=0, **wrong))
        rows.append(SampleJudgement(when="during", version=60, principles=STRONG, critique="Both are right.", **right))
        rows.append(SampleJudgement(when="after", version=STEPS, principles=strong, critique=critique, **right))
    return rows


def write(folder: Path, steps: int = STEPS) -> Path:
    """Fill the folder as a completed run does, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = iter(i * SECONDS_A_STEP / 2 for i in range(10**6))
    tracker = Tracker(folder, "tiny-20260714-1", {}, "spct", "disabled", clock=lambda: next(seconds))
    for record in records(steps):
        tracker.log(record)
    tracker.samples(samples())
    tracker.finish(summary())
    (folder / "summary.json").write_text(json.dumps(summary()))
    (folder / "config.yaml").write_text(
        "run: {seed: 1, dir: runs}\nmodel:\n  path: tiny\n  dtype: float32\n  context: 384\n"
        "grpo: {steps: 120, batch_groups: 8, max_staleness: 4, lr: 5.0e-4}\nredis:\n  url: rediss://:hunter22@example.org:6379/0\n"
    )
    return folder


if __name__ == "__main__":
    print(write_report(write(Path(sys.argv[1]))))
