"""The GRPO learner while nothing that arrives can be learnt from."""

from pathlib import Path

import pytest

from learner import grpo
from learner.arrivals import ArrivalsReport
from learner.grpo import GRPOReport
from tests.learner.run_by_hand import Run, config


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
