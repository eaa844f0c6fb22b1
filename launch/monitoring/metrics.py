"""The metrics of a run: every name with its meaning, its unit and the axis that it is plotted against."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

ELAPSED = "time/elapsed_s"  # axis of everything that no counter of versions or steps orders


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One row of METRICS."""

    meaning: str
    """What is measured, over what."""
    unit: str
    """Unit, or the range of a share."""
    axis: str
    """Name of the metric that it is plotted against; an axis is its own axis."""


def _along(axis: str, rows: Mapping[str, tuple[str, str]]) -> dict[str, Metric]:
    """Returns the metrics of the rows {name: (meaning, unit)}, all plotted against one axis."""
    return {name: Metric(meaning=meaning, unit=unit, axis=axis) for name, (meaning, unit) in rows.items()}


METRICS: Mapping[str, Metric] = {
    **_along(
        "learner/version",
        {
            "learner/version": ("policy version after this step", "versions"),
            "reward/mean": ("mean reward of all completions that arrived since the last step", "-1..1"),
            "reward/solved_all": ("share of arrived groups whose completions were all right: no gradient", "0..1"),
            "reward/solved_none": ("share of arrived groups whose completions were all wrong: no gradient", "0..1"),
            "parse/failure_rate": ("share of arrived completions that did not parse into a judgement", "0..1"),
            "position/consistency": (
                "share of pairs of arrived judgements that read one preference in different orders and pick the same response",
                "0..1",
            ),
            "position/first_excess": (
                "share of arrived judgements that pick the response shown first, less the 1/n without a position bias",
                "-1..1",
            ),
            "staleness/mean": ("learner's version minus version at issue, mean over the trained groups", "versions"),
            "staleness/max": ("the same, maximum over the trained groups; never above max_staleness", "versions"),
            "staleness/in_flight": ("part of staleness/mean that passed while groups were generated", "versions"),
            "staleness/in_queue": ("part of staleness/mean that passed while finished groups waited", "versions"),
            "groups/issued": ("groups issued since the run began", "groups"),
            "groups/trained": ("groups trained since the run began", "groups"),
            "groups/filtered": ("groups without a gradient since the run began", "groups"),
            "groups/dropped": ("groups dropped since the run began: too stale, or their loss was not finite", "groups"),
            "groups/dead_letter": ("entries that no worker could read since the run began", "groups"),
            "groups/lost_hand_offs": ("finished groups that another worker had handed on first, since the run began", "groups"),
            "policy/entropy": ("mean entropy of the policy before the step, over the trained tokens", "nats/token"),
            "off_policy/mismatch_kl": ("k3 estimate of KL(behaviour, learner before the step)", "nats/token"),
            "off_policy/ess": ("effective sample size of the importance weights, divided by their number", "0..1"),
            "off_policy/clip_fraction": ("share of tokens whose ratio was out of bounds: truncated, masked or clipped", "0..1"),
            "loss/policy": ("policy term of the loss", "loss"),
            "loss/kl": ("estimate of KL(policy, reference) that is part of the loss, before beta", "nats/token"),
            "optim/lr": ("learning rate of this step", "1"),
            "optim/grad_norm": ("global gradient norm before clipping", "1"),
            "optim/skipped_steps": ("batches skipped since the learner started: loss or gradient was not finite", "batches"),
            "length/trained": ("mean length of the trained completions", "tokens"),
            "length/dropped": ("mean length of the dropped completions", "tokens"),
            "length/completion_p50": ("median length of all completions that arrived since the last step", "tokens"),
            "length/completion_p95": ("95th percentile of the same lengths", "tokens"),
            "length/truncated_fraction": ("arrived completions that ended at the token limit", "0..1"),
            "time/step_s": ("from one policy version to the next", "s"),
            "time/wait_for_experience_s": ("waiting of the learner for groups", "s"),
            "time/train_s": ("forward, backward and optimiser", "s"),
            "time/publish_s": ("gathering the weights, and waiting until the version before is published", "s"),
        },
    ),
    **_along(
        ELAPSED,
        {
            ELAPSED: ("running time of the run, summed over its resumptions", "s"),
            "time/pull_s": ("fetching and loading one policy version into a rollout actor, which decodes meanwhile", "s"),
            "time/pause_s": ("pause of decoding while weights were loaded", "s"),
            "idle/learner_ratio": ("share of its time that the learner waited for groups", "0..1"),
            "idle/rollout_ratio": ("share of their time that the rollout actors had nothing to decode", "0..1"),
            "throughput/completions_per_s": ("completions finished, all rollout actors", "completions/s"),
            "throughput/tokens_per_s": ("tokens sampled, all rollout actors", "tokens/s"),
            "rollout/workers": ("rollout actors running", "actors"),
            "rollout/request_latency_s": ("mean time of a group in the engine, from submission to its last token", "s"),
            "rollout/request_latency_p95_s": ("95th percentile of that time", "s"),
            "actors/restarts": ("actor groups that died and were replaced since the run began", "restarts"),
            "queue/prompts": ("prompts waiting for a rollout actor", "entries"),
            "queue/rollouts": ("rollout groups waiting for the reward actor", "entries"),
            "queue/experience": ("scored groups waiting for the learner", "entries"),
        },
    ),
    **_along(
        "sft/step",
        {
            "sft/step": ("optimiser steps of the cold start's fine-tuning", "steps"),
            "sft/loss": ("negative log-likelihood of a batch before training on it", "nats/token"),
            "sft/heldout_loss": ("negative log-likelihood of held-out judgements", "nats/token"),
            "sft/heldout_accuracy": ("greedy judgements of preferences that are not learnt from that are right", "0..1"),
            "sft/lr": ("learning rate of this step", "1"),
            "sft/grad_norm": ("global gradient norm before clipping", "1"),
        },
    ),
    **_along(
        "meta_rm/step",
        {
            "meta_rm/step": ("optimiser steps of the meta-RM", "steps"),
            "meta_rm/loss": ("binary cross-entropy", "nats"),
            "meta_rm/accuracy": ("accuracy on the batch before training on it", "0..1"),
            "meta_rm/auc": ("ROC-AUC on the batch's parsed judgements before training on them", "0..1"),
            "meta_rm/auc_within": ("the same over pairs of right and wrong judgements of one preference", "0..1"),
            "meta_rm/backlog": ("scored groups that the meta-RM has not read", "entries"),
            "meta_rm/skipped": ("entries beyond the backlog limit that were skipped since the run began", "entries"),
        },
    ),
    **_along(
        "eval/version",
        {
            "eval/version": ("policy version that was evaluated", "versions"),
            "eval/newest_version": ("newest policy version that contributed a token to the evaluation", "versions"),
            "eval/accuracy@k": ("held-out accuracy of k summed votes; k = 1 is one greedy judgement", "0..1"),
            "eval/auc@k": ("held-out ROC-AUC of the scores of single responses", "0..1"),
            "eval/consistency@k": ("share of held-out preferences judged for the same response in both orders", "0..1"),
            "eval/parse_rate@k": ("share of held-out judgements that were read", "0..1"),
            "eval/strict_parse_rate@k": ("share of held-out judgements that the strict parser of training read", "0..1"),
            "eval/meta_accuracy@k": ("held-out accuracy when the meta-RM selects the votes", "0..1"),
        },
    ),
}


class MetricError(ValueError):
    """A record that cannot be logged: an unknown name, a missing axis, or a value that is not a number."""


def metric(name: str) -> Metric:
    """Returns the metric of a concrete name: `eval/accuracy@8` is an `eval/accuracy@k`.

    Raises:
        MetricError: there is no such metric.
    """
    entry = METRICS.get(re.sub(r"@[1-9]\d*$", "@k", name))
    if entry is None or name.endswith("@k"):
        close = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise MetricError(f"unknown metric {name!r}{hint} (see METRICS in launch/monitoring/metrics.py)")
    return entry


def checked(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the record with plain floats.

    Raises:
        MetricError: a name is unknown, a value is not a real number, or an axis is missing.
    """
    record: dict[str, float] = {}
    for name, value in metrics.items():
        axis = metric(name).axis
        if axis not in metrics:
            raise MetricError(f"{name!r} is plotted against {axis!r}, which the record lacks: add it")
        if not isinstance(value, Real):
            raise MetricError(f"{name!r} is {value!r}, not a number; leave a metric out while it has no value")
        record[name] = float(value)
    return record
