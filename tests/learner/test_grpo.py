"""The GRPO learner end to end: a real server, DeepSpeed, a random model; experience made by hand."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from buffer.messages import ExperienceGroup
from buffer.server import EmbeddedServer
from buffer.streams import Address, dead_letters
from buffer.weights import Edition, Probe, WeightsRefused
from learner import checkpoint
from learner.grpo import GRPOReport
from tests.learner.run_by_hand import Run, config, experience


def trained(report: object) -> GRPOReport:
    assert isinstance(report, GRPOReport)
    return report


def test_it_publishes_version_0_then_a_version_per_step_and_acknowledges_with_the_checkpoint(run: Run, model: Path) -> None:
    learner = run.grpo(config(model, learner={"checkpoint_every": 2, "zero_stage": 1}))
    assert learner.step(0.05) is None
    assert [weights.version for weights in run.sink.published] == [0]

    first = run.feed(2)
    report = trained(learner.step(5.0))
    assert (report.version, report.groups) == (1, tuple(first))
    assert run.ledger.version() == 1
    assert run.pending("grpo") == 2, "not acknowledged before a checkpoint contains the gradient"
    assert checkpoint.newest(run.folder / "policy") is None

    run.feed(2)
    assert trained(learner.step(5.0)).version == 2
    learner.save()  # waits for the one that is being written
    assert run.pending("grpo") == 0
    newest = checkpoint.newest(run.folder / "policy")
    assert newest is not None
    assert newest[1].version == 2
    assert len(newest[1].entries) == 4
    assert run.ledger.outcomes() | {"skipped": 0} == {
        "issued": 4,
        "trained": 4,
        "filtered": 0,
        "dropped": 0,
        "dead_letter": 0,
        "skipped": 0,
    }
    learner.close()

    for weights in run.sink.published:
        weights.verify(newer_than=Edition(weights.incarnation, weights.version - 1))
    before, after = run.sink.published[0].arrays, run.sink.published[-1].arrays
    assert "lm_head.weight" not in after
    assert all(np.abs(after[name] - before[name]).max() > 0 for name in after)
    with pytest.raises(WeightsRefused):
        run.sink.published[1].verify(newer_than=Edition(1, 1))
    weights_equal_the_published(newest[0] / "model", after)
    probe_is_of_the_published(newest[0] / "model", run.sink.published[-1].probe)


def weights_equal_the_published(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    parameters = dict(saved.named_parameters())
    assert parameters.keys() == arrays.keys()
    assert all(np.array_equal(parameters[name].detach().numpy(), arrays[name]) for name in arrays)
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"
    assert torch.isfinite(saved(torch.tensor([[1, 2, 3]])).logits).all()


def probe_is_of_the_published(folder: Path, probe: Probe | None) -> None:
    assert probe is not None
    model, ids = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), torch.tensor([probe.token_ids])
    assert len({*probe.token_ids}) == ids.numel(), "spread over the vocabulary"
    logprobs = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(probe.logprobs), logprobs, atol=1e-5, rtol=0)


def test_staleness_is_bounded_and_split_and_stragglers_are_waited_for(run: Run, model: Path) -> None:
    settings = config(model, grpo={"max_staleness": 1, "batch_groups": 2})
    learner = run.grpo(settings)
    assert run.issue(100, limit=settings.credit) == [0, 1, 2, 3]
    straggler, *others = (experience(number, 0) for number in range(4))
    for group in others:
        run.deliver(group)
    report = trained(learner.step(5.0))
    assert report.groups == (1, 2), "the straggler is not due yet"
    assert report.metrics["staleness/max"] == 0
    assert run.issue(100, limit=settings.credit) == [4, 5]
    for number in (4, 5):
        run.deliver(experience(number, 1))
    assert learner.step(0.2) is None, "group 0 is due at version 1 and must not be left behind"
    run.deliver(straggler)
    report = trained(learner.step(5.0))
    assert report.groups == (0, 3)
    assert report.metrics["staleness/max"] == report.metrics["staleness/mean"] == 1
    assert report.metrics["staleness/in_queue"] == 1, "all its tokens are of version 0: it aged in the queue"
    assert report.metrics["staleness/in_flight"] == 0
    learner.close()


def test_uninformative_groups_are_released_counted_and_reported(run: Run, model: Path) -> None:
    learner = run.grpo(config(model))
    run.feed(2, rewards=(1.0,) * 4)
    run.feed(1, rewards=(-1.0,) * 4)
    run.feed(1)
    assert learner.step(0.1) is None
    assert run.ledger.outstanding() == {3: 0}
    assert run.pending("grpo") == 1
    run.feed(1)
    report = trained(learner.step(5.0))
    assert report.groups == (3, 4)
    metrics = report.metrics
    outcomes = run.ledger.outcomes()
    assert (outcomes["issued"], outcomes["filtered"], outcomes["trained"]) == (5, 3, 2)
    assert metrics["reward/solved_all"] == pytest.approx(2 / 5)
    assert metrics["reward/solved_none"] == pytest.approx(1 / 5)
    informative = [reward for number in (3, 4) for reward in experience(number, 0).rewards]
    assert metrics["reward/mean"] == pytest.approx((8 - 4 + sum(informative)) / 20)
    learner.close()


def test_what_arrives_in_the_middle_of_a_step_is_filtered_before_its_end(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = run.grpo(config(model))
    backward, step = learner._engine.backward, learner._engine.step
    filtered = list[int]()

    def then_more_arrive(loss: Any, *, last: bool) -> None:
        backward(loss, last=last)
        if not last:
            run.feed(1, rewards=(1.0,) * 4)

    def last_of_all() -> Any:
        filtered.append(run.ledger.outcomes()["filtered"])
        return step()

    monkeypatch.setattr(learner._engine, "backward", then_more_arrive)
    monkeypatch.setattr(learner._engine, "step", last_of_all)
    run.feed(2)
    assert trained(learner.step(5.0)).groups == (0, 1)
    assert filtered == [1]
    learner.close()


def test_undecodable_entries_go_to_the_dead_letters_and_its_credit_refills(run: Run, model: Path) -> None:
    learner = run.grpo(config(model))
    assert run.issue(5) == [0, 1, 2, 3, 4]
    run.deliver_bytes(0, b"\xc1 not msgpack")
    run.deliver(experience(1, 0, vocabulary=10**6))  # token ids that the model does not have
    run.deliver_bytes(2, b"")
    run.deliver(experience(3, 0))
    run.deliver(experience(4, 0))
    report = trained(learner.step(5.0))
    assert report.groups == (3, 4)
    assert run.ledger.outcomes()["dead_letter"] == 3
    reasons = [letter.reason for letter in dead_letters(run.client, run.address.run_id)]
    assert len(reasons) == 3
    assert "vocabulary" in reasons[1]
    learner.close()


def test_dropping_reports_the_lengths_of_what_it_dropped(run: Run, model: Path) -> None:
    learner = run.grpo(config(model, grpo={"stale": "drop", "max_staleness": 0}))
    run.issue(4)
    for number in (1, 2):
        run.deliver(experience(number, 0))
    trained(learner.step(5.0))
    for number in (0, 3):
        run.deliver(experience(number, 0))
    assert learner.step(0.1) is None
    fed = run.feed(2)
    report = trained(learner.step(5.0))
    assert report.groups == tuple(fed)
    assert run.ledger.outcomes()["dropped"] == 2
    lengths = [len(ids) for number in (0, 3) for ids in experience(number, 0).completion_ids]
    assert report.metrics["length/dropped"] == pytest.approx(sum(lengths) / len(lengths))
    learner.close()


NAMES = {
    "reward/mean",
    "reward/solved_all",
    "reward/solved_none",
    "parse/failure_rate",
    "staleness/mean",
    "staleness/max",
    "staleness/in_flight",
    "staleness/in_queue",
    "off_policy/mismatch_kl",
    "off_policy/ess",
    "off_policy/clip_fraction",
    "loss/policy",
    "loss/kl",
    "optim/lr",
    "optim/grad_norm",
    "optim/skipped_steps",
    "length/trained",
    "length/completion_p50",
    "length/completion_p95",
    "length/truncated_fraction",
    "policy/entropy",
    "time/step_s",
    "time/wait_for_experience_s",
    "time/train_s",
    "time/publish_s",
    "idle/learner_ratio",
}


def test_the_report_has_the_metrics_of_the_design(run: Run, model: Path) -> None:
    learner = run.grpo(config(model))
    learner.step(0.3)  # waited for nothing: that time counts
    run.feed(2)
    metrics = trained(learner.step(5.0)).metrics
    assert metrics.keys() == NAMES
    assert all(np.isfinite(value) for value in metrics.values())
    assert 0.3 <= metrics["time/wait_for_experience_s"] <= metrics["time/step_s"]
    assert metrics["optim/lr"] == pytest.approx(5e-3), "the first of two steps of warm-up"
    learner.close()


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_resumed_from_its_checkpoint_it_continues_as_if_never_stopped(run: Run, model: Path, zero_stage: int) -> None:
    settings = config(model, learner={"checkpoint_every": 2, "zero_stage": zero_stage}, grpo={"warmup_steps": 4})
    learner = run.grpo(settings)
    for _ in range(2):
        run.feed(2)
        trained(learner.step(5.0))
    run.feed(2)
    lost = trained(learner.step(5.0))  # trained and published as version 3, but in no checkpoint
    late = run.feed(2)  # and by then more was issued, at version 3
    learner.close()

    again = run.grpo(settings)
    assert again.version == run.ledger.version() == 2
    assert run.sink.published[-1].version == 2
    report = trained(again.step(5.0))
    assert (report.version, report.groups, report.loss) == (3, lost.groups, lost.loss)
    same = ["optim/lr", "optim/grad_norm", "loss/kl", "off_policy/ess"]
    assert [report.metrics[name] for name in same] == [lost.metrics[name] for name in same]
    again._publisher.wait()
    by_version = [weights.arrays for weights in run.sink.published if weights.version == 3]
    assert all(np.array_equal(by_version[0][name], by_version[1][name]) for name in by_version[0])
    assert trained(again.step(5.0)).groups == tuple(late)
    assert run.ledger.outcomes()["trained"] == 8, "each group is counted once, although two were trained twice"
    assert run.ledger.outstanding() == {}
    again.close()


def test_entries_of_a_checkpoint_are_never_trained_again(run: Run, model: Path) -> None:
    """Killed between the rename of the checkpoint and the acknowledgement."""
    settings = config(model, learner={"checkpoint_every": 1})
    learner = run.grpo(settings)
    learner._intake.saved = lambda *_: None  # type: ignore[method-assign]
    groups = run.feed(2)
    trained(learner.step(5.0))
    learner.save()
    assert run.pending("grpo") == 2
    learner.close()

    again = run.grpo(settings)
    assert (again.version, run.pending("grpo")) == (1, 0)
    assert again.step(0.1) is None
    following = run.feed(2)
    assert trained(again.step(5.0)).groups == tuple(following) != tuple(groups)
    again.close()


def test_save_writes_what_is_new_once(run: Run, model: Path) -> None:
    learner = run.grpo(config(model))
    run.feed(2)
    trained(learner.step(5.0))
    learner.save()
    assert checkpoint.versions(run.folder / "policy") == [1]
    assert run.pending("grpo") == 0
    written = (run.folder / "policy" / "version-000001").stat().st_ino
    learner.save()
    assert (run.folder / "policy" / "version-000001").stat().st_ino == written
    learner.close()


def losses_with_eta_0(run: Run, model: Path, seed: int) -> list[float]:
    """Five steps; groups arrive in a random order, every fifth of them is uninformative and replaced."""
    settings = config(model, grpo={"max_staleness": 0, "batch_groups": 4})
    learner, losses, rng = run.grpo(settings), [], random.Random(seed)
    in_flight: list[ExperienceGroup] = []
    while len(losses) < 5:
        version = run.ledger.version()
        for number in run.issue(100, limit=settings.credit):
            in_flight.append(experience(number, version, rewards=(1.0,) * 4 if number % 5 == 0 else ()))
        if in_flight:
            run.deliver(in_flight.pop(rng.randrange(len(in_flight))))
        report = learner.step(0.01)
        losses += [report.loss] if report else []
    learner.close()
    return losses


def test_with_eta_0_losses_are_bit_equal_whatever_the_order_of_arrival(
    server: EmbeddedServer, model: Path, tmp_path: Path
) -> None:
    losses = []
    for seed in range(2):
        run = Run(Address(server.url, f"eta-0-{seed}"), tmp_path / str(seed))
        losses.append(losses_with_eta_0(run, model, seed))
        run.close()
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 5
