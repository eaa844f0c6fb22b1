"""The meta-RM learner end to end: a real server, DeepSpeed, a random model; experience made by hand."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from buffer.messages import ExperienceGroup
from configs.schema import Config
from learner import checkpoint
from learner.cold_start_batches import ColdStartBatches
from learner.meta_rm import MetaRMLearner, MetaRMReport
from learner.prompt_groups import by_prompt
from tests.learner.run_by_hand import Run, config, experience


def trained(report: MetaRMReport | None) -> MetaRMReport:
    assert report is not None
    return report


def test_it_trains_on_every_parsed_completion_and_measures_before_it_trains(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model))
    assert learner.step(0.05) is None
    run.feed(1, rewards=(1.0, 1.0, 1.0, 1.0))  # no policy gradient, but the meta-RM trains on it
    assert learner.step(0.05) is None, "half a batch is no batch"
    run.feed(1)
    first = trained(learner.step(5.0))
    assert (first.version, first.groups, first.completions) == (1, (0, 1), 8)
    # The new head starts at 0: p = 1/2 for all, so these are the numbers of an untrained meta-RM.
    assert first.metrics["meta_rm/loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert first.metrics["meta_rm/auc"] == first.metrics["meta_rm/auc_within"] == 0.5
    assert first.metrics["meta_rm/backlog"] == 0
    losses = []
    for _ in range(6):
        for number in (0, 1):
            run.deliver(experience(number, 0))
        losses.append(trained(learner.step(5.0)).metrics["meta_rm/loss"])
    assert losses[-1] < losses[0]
    learner.close()


def test_acknowledged_with_the_checkpoint_which_transformers_score_alike(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model, learner={"checkpoint_every": 2}))
    groups = [experience(number, 0) for number in range(6)]
    for group in groups[:2]:
        run.deliver(group)
    trained(learner.step(5.0))
    assert run.pending("meta-rm") == 2
    for group in groups[2:4]:
        run.deliver(group)
    trained(learner.step(5.0))
    learner.save()  # waits for the one that is being written
    assert run.pending("meta-rm") == 0
    assert run.pending("grpo") == 0, "the meta-RM reads the stream too; it claims nothing for the policy"

    for group in groups[4:]:
        run.deliver(group)
    live = trained(learner.step(5.0)).metrics["meta_rm/loss"]
    learner.close()
    newest = checkpoint.newest(run.folder / "meta_rm")
    assert newest is not None
    assert loss_by_transformers(newest[0] / "model", groups[4:]) == pytest.approx(live, abs=1e-5)

    again = run.meta_rm(config(model, learner={"checkpoint_every": 2}))
    assert again.version == 2
    assert trained(again.step(5.0)).metrics["meta_rm/loss"] == live, "claimed before, in no checkpoint: trained again"
    again.close()


def loss_by_transformers(folder: Path, groups: list[ExperienceGroup]) -> float:
    """Return the loss of one padded batch, as a user of the folder would score it."""
    scorer = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    rows = [[*prompt, *ids] for prompt, completions in by_prompt(groups) for ids in completions]
    longest = max(map(len, rows))
    pad = scorer.config.pad_token_id
    with torch.no_grad():
        logits = scorer(torch.tensor([row + [pad] * (longest - len(row)) for row in rows])).logits
    assert logits.shape == (len(rows), 1)
    correct = torch.tensor([float(reward > 0) for group in groups for reward in group.rewards])
    return float(torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], correct))


def test_what_piles_up_is_skipped_and_counted(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model, meta_rm={"max_backlog": 3}))
    for number in range(10):
        run.deliver(experience(number, 0))
    report = trained(learner.step(5.0))
    assert report.groups == (7, 8)
    assert report.metrics["meta_rm/skipped"] == 7
    assert report.metrics["meta_rm/backlog"] == 1
    learner.close()


def test_a_batch_that_was_all_right_has_no_auc(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model))
    run.deliver(experience(0, 0, rewards=(1.0,) * 4))
    run.deliver(experience(1, 0, rewards=(1.0,) * 4))
    metrics = trained(learner.step(5.0)).metrics
    assert not {"meta_rm/auc", "meta_rm/auc_within"} & metrics.keys()
    assert metrics["meta_rm/accuracy"] == 0.0
    learner.close()


# ---- what never votes ------------------------------------------------------------------------------------------------

HALF = ("", "cut_short", "", "no_box")  # of a group's completions two are parsed


def test_it_is_never_trained_on_what_never_votes(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model))
    run.feed(3, failures=HALF)
    assert learner.step(0.05) is None, "six parsed completions are no batch of eight"
    run.feed(1, failures=HALF)
    groups, apply = [], learner._update.apply
    learner._update.apply = lambda batch: groups.extend(batch) or apply(batch)  # type: ignore
    report = trained(learner.step(5.0))
    assert (report.groups, report.completions) == ((0, 1, 2, 3), 8)
    whole = [experience(number, 0) for number in range(4)]
    assert [group.completion_ids for group in groups] == [(g.completion_ids[0], g.completion_ids[2]) for g in whole]
    assert [group.rewards for group in groups] == [(g.rewards[0], g.rewards[2]) for g in whole]
    learner.save()
    assert run.pending("meta-rm") == 0, "a checkpoint contains all that there is to learn of them"
    learner.close()


def test_a_group_of_which_nothing_was_parsed_is_acknowledged_at_once_and_holds_up_nothing(run: Run, model: Path) -> None:
    learner = run.meta_rm(config(model, meta_rm={"max_backlog": 2}))
    for _ in range(10):  # many times the backlog
        run.feed(2, failures=("no_box",) * 4)
        assert learner.step(0.05) is None
    assert run.pending("meta-rm") == 0
    assert run.ledger.outcomes()["skipped"] == 0
    run.feed(2)
    assert trained(learner.step(5.0)).groups == (20, 21)
    assert run.pending("meta-rm") == 2
    learner.close()


def test_restarted_it_keeps_what_was_parsed_of_the_claimed_groups(run: Run, model: Path) -> None:
    killed = run.meta_rm(config(model))
    run.feed(3, failures=HALF)
    assert killed.step(0.05) is None
    killed.close()
    again = run.meta_rm(config(model))
    assert run.pending("meta-rm") == 3
    run.feed(1, failures=HALF)
    assert trained(again.step(5.0)).groups == (0, 1, 2, 3)
    again.close()


# ---- what the cold start sampled comes first -------------------------------------------------------------------------


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Five groups of four judgements without a hint, and five hinted ones: two batches of eight, and a rest."""
    rows = []
    for number in range(100, 105):
        group = experience(number, 0)
        pairs = zip(group.completion_ids, group.rewards, strict=True)
        completions = [
            {"view": int(i >= group.samples[0]), "ids": ids, "text": "", "reward": reward, "failure": ""}
            for i, (ids, reward) in enumerate(pairs)
        ]
        views = [{"prompt_ids": prompt} for prompt in group.prompt_ids]
        row = {"preference": group.preference, "views": views, "completions": completions}
        rows += [row | {"hinted": False}, row | {"hinted": True, "completions": completions[:1]}]
    path = tmp_path / "sampled.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def started(run: Run, settings: Config, samples: Path, folder: str) -> MetaRMLearner:
    learner = MetaRMLearner(
        settings,
        rank=0,
        world=1,
        model_path=settings.model.path,
        address=run.address,
        checkpoints=run.folder / folder,
        cold_start_samples=samples,
    )
    learner.start(*learner.rendezvous())
    return learner


def test_it_trains_on_the_cold_start_first_and_then_on_the_stream(run: Run, model: Path, samples: Path) -> None:
    learner = started(run, config(model, learner={"checkpoint_every": 1}), samples, "meta_rm")
    run.feed(2)
    trained_on = []
    apply = learner._update.apply
    learner._update.apply = lambda groups: trained_on.append(groups) or apply(groups)  # type: ignore
    reports = [trained(learner.step(5.0)) for _ in range(3)]
    assert [(report.version, report.groups) for report in reports] == [(1, ()), (2, ()), (3, (0, 1))]
    assert [report.completions for report in reports] == [8, 8, 8]
    assert len(ColdStartBatches(samples, 8)) == 2
    assert trained_on[:2] == [ColdStartBatches(samples, 8)[number] for number in range(2)]
    assert [report.metrics["meta_rm/backlog"] for report in reports] == [2, 2, 0], "the stream waits meanwhile"
    assert reports[0].metrics["meta_rm/loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert learner.step(0.05) is None
    learner.save()
    assert run.pending("meta-rm") == 0
    learner.close()


def test_its_backlog_is_bounded_while_it_trains_on_the_cold_start(run: Run, model: Path, samples: Path) -> None:
    settings = config(model, meta_rm={"max_backlog": 4})
    learner = started(run, settings, samples, "meta_rm")
    run.feed(10)
    report = learner.step(5.0)
    assert report is not None
    assert report.groups == (), "a batch of the cold start"
    assert run.ledger.outcomes()["skipped"] == 6
    learner.close()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_restarted_it_continues_behind_what_its_checkpoint_contains(run: Run, model: Path, samples: Path, every: int) -> None:
    settings = config(model, learner={"checkpoint_every": every})
    run.feed(4)
    killed = started(run, settings, samples, "meta_rm")
    whole = [trained(killed.step(5.0)) for _ in range(4)]
    assert [report.groups for report in whole] == [(), (), (0, 1), (2, 3)]
    killed.close()
    again = started(run, settings, samples, "meta_rm")
    assert again.version == 4 - 4 % every
    for report in whole[again.version :]:
        repeated = trained(again.step(5.0))
        assert (repeated.version, repeated.groups) == (report.version, report.groups)
        assert repeated.metrics["meta_rm/loss"] == report.metrics["meta_rm/loss"]
    assert again.step(0.05) is None, "no batch of the cold start comes twice"
    again.close()


@pytest.mark.parametrize("stop", [1, 2])
def test_stopped_among_the_batches_of_the_cold_start_it_ends_as_if_never_stopped(
    run: Run, model: Path, samples: Path, stop: int
) -> None:
    settings = config(model, learner={"checkpoint_every": 1})
    whole = started(run, settings, samples, "whole")
    losses = [trained(whole.step(5.0)).metrics["meta_rm/loss"] for _ in range(2)]
    whole.close()
    killed = started(run, settings, samples, "killed")
    resumed = [trained(killed.step(5.0)).metrics["meta_rm/loss"] for _ in range(stop)]
    killed.close()
    again = started(run, settings, samples, "killed")
    resumed += [trained(again.step(5.0)).metrics["meta_rm/loss"] for _ in range(2 - stop)]
    assert resumed == losses
    run.feed(2)
    assert trained(again.step(5.0)).groups == (0, 1), "then the stream"
    again.close()
