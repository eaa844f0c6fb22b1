"""Which version of the fine-tuning is kept: the ranks by hand, then the learner with each of them."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from learner import checkpoint
from learner.generation import GreedyRequest, in_order
from learner.sft import FINISHED, SFTLearner, SFTReport
from learner.sft_selection import SELECTIONS, Measured
from tests.learner.run_by_hand import END
from tests.learner.sft_by_hand import examples, write
from tests.learner.test_sft import settings, started, steps

VERSIONS = [
    Measured(version=0, loss=3.0, accuracy=0.25),
    Measured(version=10, loss=1.0, accuracy=0.5),
    Measured(version=20, loss=2.0, accuracy=0.75),
    Measured(version=30, loss=1.5, accuracy=0.75),
    Measured(version=40, loss=4.0, accuracy=0.5),
]


@pytest.mark.parametrize(("select", "best"), [("loss", 10), ("accuracy", 30), ("last", 40)])
def test_the_best_by_each_selection(select: str, best: int) -> None:
    assert max(VERSIONS, key=SELECTIONS[select]).version == best


def test_a_version_that_was_not_judged_has_no_rank_by_accuracy() -> None:
    with pytest.raises(ValueError, match="version 5 was not judged"):
        SELECTIONS["accuracy"](Measured(version=5, loss=1.0, accuracy=None))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sft") / "set.jsonl", examples(24, seed=1))


def test_the_last_version_can_be_had_and_nothing_stops_it(model: Path, dataset: Path, tmp_path: Path) -> None:
    config = settings(model, select="last", lr=1.0, eval_every=2, patience=1, steps=7)
    reports = steps(started(config, dataset, tmp_path / "whole"))
    assert [report.version for report in reports] == list(range(1, 8))
    losses = [report.heldout_loss for report in reports if report.heldout_loss is not None]
    assert min(losses) < losses[-1], "the test needs a model that gets worse"
    assert checkpoint.versions(tmp_path / "whole") == [7]
    assert steps(started(config, dataset, tmp_path / "killed"), 5) == reports[:5]
    assert steps(started(config, dataset, tmp_path / "killed")) == reports[4:], "from version 4 on, to the last bit"


ACCURACIES = {0: 0.25, 2: 0.5, 4: 0.75, 6: 0.5, 8: 0.75, 10: 0.75, 12: 0.5}  # what a driver makes of the judgements


def judged(learner: SFTLearner, count: int = 1000) -> list[SFTReport]:
    """Return the reports of up to `count` steps of a learner whose judgements are settled; close it."""
    reports: list[SFTReport] = []
    while len(reports) < count:
        if learner.status().unsettled:
            learner.settle(ACCURACIES[learner.version])
        if (report := learner.step()) is None:
            break
        reports.append(report)
    if learner.status().unsettled:
        learner.settle(ACCURACIES[learner.version])
    learner.close()
    return reports


def test_judging_accuracy_chooses_and_stops_and_a_kill_changes_nothing(model: Path, dataset: Path, tmp_path: Path) -> None:
    config = settings(model, select="accuracy", lr=1.0, eval_every=2, patience=2, steps=100)
    learner = started(config, dataset, tmp_path / "whole")
    whole = judged(learner)
    losses = {report.version: report.heldout_loss or 0.0 for report in whole}
    rank = {version: (ACCURACIES[version], -losses[version]) for version in (4, 6, 8)}
    assert learner.status().best == max(rank, key=lambda version: rank[version])
    assert learner.status().best_accuracy == 0.75
    assert learner.status().best_loss == losses[learner.status().best]
    assert checkpoint.versions(tmp_path / "whole") == [learner.status().best]
    assert json.loads((tmp_path / "whole" / FINISHED).read_text()) == asdict(learner.status())
    for count in (3, 2):
        judged(started(config, dataset, tmp_path / "killed"), count)
    again = started(config, dataset, tmp_path / "killed")
    begun = again.version
    assert judged(again) == whole[begun:]
    assert again.status() == learner.status()


def test_a_version_is_settled_once_and_before_the_next_step(model: Path, dataset: Path, tmp_path: Path) -> None:
    learner = started(settings(model, select="accuracy", steps=9), dataset, tmp_path)
    with pytest.raises(RuntimeError, match="version 0 of the fine-tuning is to be judged and settled before the next step"):
        learner.step()
    learner.settle(0.5)
    with pytest.raises(RuntimeError, match="version 0 of the fine-tuning is settled already"):
        learner.settle(0.5)
    learner.close()


@pytest.mark.parametrize("zero_stage", [1, 3])
def test_it_judges_and_goes_on_as_if_it_had_not(model: Path, dataset: Path, tmp_path: Path, zero_stage: int) -> None:
    prompts = tuple(example.prompt_ids for example in examples(5, seed=4))
    request = GreedyRequest(prompts=prompts, limit=6, end=END)
    config = settings(model, zero_stage=zero_stage, steps=5, eval_every=9)
    alone = steps(started(config, dataset, tmp_path / "alone"))
    learner, reports, written = started(config, dataset, tmp_path / "judged"), [], []
    while (report := learner.step()) is not None:
        reports.append(report)
        written.append(in_order([learner.judge(request)], len(prompts)))
    learner.close()
    assert reports == alone
    assert all(0 < len(ids) <= 6 for row in written for ids in row)
    assert written[0] != written[-1], "it judges with the weights of now"
