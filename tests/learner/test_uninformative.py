"""The GRPO learner while nothing that arrives can be learnt from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learner import grpo
from learner.arrivals import ArrivalsReport
from learner.grpo import GRPOReport
from tests.learner.run_by_hand import Run, config, experience


def test_what_arrives_is_reported_without_a_step_too_while_none_of_it_can_be_learnt_from(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = run.grpo(config(model))
    run.feed(3, rewards=(-1.0,) * 4)
    assert learner.step(0.1) is None, "not at once"
    monkeypatch.setattr(grpo, "ARRIVALS_S", 0.0)
    report = learner.step(0.1)
    assert isinstance(report, ArrivalsReport)
    assert (report.version, report.groups, report.metrics["reward/mean"]) == (0, 3, -1.0)
    assert run.ledger.outcomes()["filtered"] == 3
    run.feed(1)
    assert learner.step(0.1) is None, "one group that can be trained on has arrived"
    run.feed(1)
    report = learner.step(5.0)
    assert isinstance(report, GRPOReport)
    assert report.metrics["reward/solved_none"] == pytest.approx(3 / 5), "of all since the last step"
    assert learner.step(0.1) is None, "nothing has arrived"
    learner.close()


def test_without_the_filter_they_are_trained_on_for_their_kl(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo, "ARRIVALS_S", 0.0)
    learner = run.grpo(config(model, grpo={"filter": False, "warmup_steps": 0}))
    run.feed(1, rewards=(-1.0,) * 4)
    assert learner.step(0.1) is None, "a batch is missing, not something to learn: that is no report"
    run.feed(1)
    mixed = learner.step(5.0)
    run.feed(2, rewards=(1.0,) * 4)
    same = learner.step(5.0)
    assert isinstance(mixed, GRPOReport)
    assert isinstance(same, GRPOReport)
    assert (mixed.groups, same.groups) == ((0, 1), (2, 3)), "in the order of issue, none is passed over"
    assert run.ledger.outcomes() | {"filtered": 0, "trained": 4} == run.ledger.outcomes()
    assert mixed.metrics["reward/solved_none"] == pytest.approx(1 / 2), "so the informative share is known"
    assert same.metrics["reward/solved_all"] == 1
    assert same.metrics["loss/policy"] == 0, "all advantages are 0"
    assert same.metrics["loss/kl"] > 0
    assert same.metrics["optim/grad_norm"] > 0, "the step is one on the KL"
    learner._publisher.wait()
    first, second, third = (weights.arrays for weights in run.sink.published)
    assert all(np.abs(first[name] - second[name]).max() > 0 for name in first)
    assert all(np.abs(second[name] - third[name]).max() > 0 for name in first)
    learner.close()


def test_truncated_completions_can_be_left_out(run: Run, model: Path) -> None:
    learner = run.grpo(config(model, grpo={"overlong": "mask", "normalise": "constant", "advantages": "centred"}))
    groups = [replace(experience(number, 0), truncated=(True, False, False, False)) for number in run.issue(2)]
    for group in groups:
        run.deliver(group)
    report = learner.step(5.0)
    assert isinstance(report, GRPOReport)
    tokens = sum(len(ids) for group in groups for ids in group.completion_ids[1:])
    assert report.metrics["length/trained"] == pytest.approx(tokens / 6)
    learner.close()
