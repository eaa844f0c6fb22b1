"""The names of the metrics, and what a record of them may hold."""

import numpy as np
import pytest

from launch.monitoring.metrics import METRICS, MetricError, checked, metric

# The metrics as documented, listed a second time so that a removed or renamed one is noticed.
DOCUMENTED = [
    "reward/mean",
    "reward/solved_all",
    "reward/solved_none",
    "parse/failure_rate",
    "position/consistency",
    "position/first_excess",
    "loss/policy",
    "loss/kl",
    "optim/lr",
    "optim/grad_norm",
    "length/trained",
    "length/dropped",
    "length/completion_p50",
    "length/completion_p95",
    "length/truncated_fraction",
    "policy/entropy",
    "rollout/workers",
    "rollout/request_latency_s",
    "rollout/request_latency_p95_s",
    "idle/learner_ratio",
    "idle/rollout_ratio",
    "throughput/completions_per_s",
    "throughput/tokens_per_s",
    "eval/accuracy@k",
    "eval/auc@k",
    "eval/newest_version",
    "eval/parse_rate@k",
    "eval/consistency@k",
    "eval/strict_parse_rate@k",
    "eval/meta_accuracy@k",
    *(
        f"{noun}/{detail}"
        for noun, details in {
            "staleness": "mean max in_flight in_queue",
            "groups": "issued trained filtered dropped dead_letter lost_hand_offs",
            "off_policy": "mismatch_kl ess clip_fraction",
            "time": "step_s wait_for_experience_s train_s publish_s pull_s pause_s",
            "queue": "prompts rollouts experience",
            "meta_rm": "loss accuracy auc auc_within backlog skipped",
        }.items()
        for detail in details.split()
    ),
]
FAULTS = {"actors/restarts", "optim/skipped_steps"}
AXES = {"learner/version", "meta_rm/step", "sft/step", "eval/version", "time/elapsed_s"}
FINE_TUNING = {"sft/loss", "sft/heldout_loss", "sft/heldout_accuracy", "sft/lr", "sft/grad_norm"}  # of the cold start


def test_metrics_hold_every_documented_name() -> None:
    assert set(DOCUMENTED) | AXES | FINE_TUNING | FAULTS == set(METRICS)
    assert {entry.axis for entry in METRICS.values()} == AXES
    assert all(METRICS[axis].axis == axis for axis in AXES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reward/men", "did you mean 'reward/mean'"),
        ("staleness", "unknown metric 'staleness'"),
        ("eval/accuracy@k", "unknown metric"),
        ("eval/accuracy@0", "unknown metric"),
        ("eval/accuracy@-1", "unknown metric"),
        ("eval/accuracy", "did you mean 'eval/accuracy@k'"),
        ("reward/mean@2", "unknown metric"),
    ],
)
def test_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        checked({"learner/version": 1, "eval/version": 1, name: 0.5})


@pytest.mark.parametrize("value", ["0.5", None, [1.0], {"a": 1}, 1j])
def test_a_value_that_is_not_a_number_is_refused(value: object) -> None:
    with pytest.raises(MetricError, match="not a number"):
        checked({"learner/version": 1, "reward/mean": value})  # type: ignore[dict-item]


def test_a_record_without_its_axis_is_refused() -> None:
    with pytest.raises(MetricError, match="'reward/mean' is plotted against 'learner/version'"):
        checked({"reward/mean": 0.5})


def test_numbers_of_other_libraries_become_floats() -> None:
    assert checked({"learner/version": np.int64(3), "reward/mean": np.float64(0.25)}) == {
        "learner/version": 3.0,
        "reward/mean": 0.25,
    }
    assert metric("eval/accuracy@32") is METRICS["eval/accuracy@k"]
