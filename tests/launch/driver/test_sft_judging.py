"""How the model is judged while it is fine-tuned: which preferences, by which rule, and what the ranks are told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load
from grm.tiny_world import preferences
from launch.cluster import calls
from launch.driver.fine_tuning import _run_to_end
from launch.driver.sft_judging import MOST, JudgedPrompts, judged_prompts
from launch.monitoring import jsonl_log
from launch.setup.model_files import TINY
from launch.setup.prompt_source import prompt_source
from launch.setup.tokenizer import Tokenizer
from learner.generation import GreedyRequest, share
from learner.sft import SFTReport, SFTStatus
from learner.sft_examples import split
from tests.launch.cluster.local_ray import LocalActor, LocalRay
from tests.launch.driver.cold_start_plans import judgement

CONFIG = load("tiny", ["cold_start.select=accuracy"])
TRAIN = preferences(seed=3, count=400)
NAMES = [p.question.id for p in TRAIN]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


def chosen(
    tokenizer: Tokenizer, folder: Path, *, sampled: Sequence[str], kept: Sequence[str], count: int = 400
) -> JudgedPrompts:
    """The prompts to judge when so many preferences were sampled and some of these kept."""
    train = TRAIN[:count]
    for file in (folder / "sampled.jsonl", folder / "dataset.jsonl"):
        file.unlink(missing_ok=True)
    jsonl_log.append(folder / "sampled.jsonl", [{"preference": name} for name in sampled])
    rows = [{"kind": "plain", "preference": name} for name in kept]
    jsonl_log.append(folder / "dataset.jsonl", [*rows, {"kind": "general"}, {"kind": "general"}])
    prompts = prompt_source(CONFIG, [p.question for p in train], tokenizer)
    inputs: Any = SimpleNamespace(train=train, prompts=prompts, tokenizer=tokenizer)
    return judged_prompts(CONFIG, inputs, sampled=folder / "sampled.jsonl", dataset=folder / "dataset.jsonl")


def names(judged: JudgedPrompts) -> set[str]:
    return {draft.preference for draft in judged.drafts}


def test_what_is_learnt_from_is_not_judged(tokenizer: Tokenizer, tmp_path: Path) -> None:
    kept = NAMES[:150:2]
    judged = chosen(tokenizer, tmp_path, sampled=NAMES[:150], kept=kept)
    learnt = {kept[index] for index in split(kept, seed=CONFIG.run.seed)[0]}
    assert len(judged.drafts) == MOST
    assert not names(judged) & learnt
    assert [p.question.id for p in judged.preferences] == [draft.preference for draft in judged.drafts]
    assert judged == chosen(tokenizer, tmp_path, sampled=NAMES[149::-1], kept=kept[::-1]), "whatever the order of the files"


def test_when_all_were_sampled_those_held_out_and_rejected_ones_of_their_share_are_judged(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    kept = NAMES[::2]
    judged = chosen(tokenizer, tmp_path, sampled=NAMES, kept=kept)
    heldout = {kept[index] for index in split(kept, seed=CONFIG.run.seed)[1]}
    assert heldout < names(judged)
    rejected = len(names(judged) - heldout)
    assert 2 <= rejected <= 25, "about as many as are held out: half of the preferences were rejected"


def test_the_rule_judges_and_the_prompt_is_the_policys_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    judged = chosen(tokenizer, tmp_path, sampled=NAMES[:9], kept=NAMES[:9])
    kinds = ["r", "w", "u", "r"] * 16
    texts = [
        judgement(p, d.views[0].permutation, kind) for p, d, kind in zip(judged.preferences, judged.drafts, kinds, strict=True)
    ]
    assert judged.accuracy([tokenizer.completion(text) for text in texts]) == 0.5
    request = judged.request()
    assert request.prompts == tuple(draft.views[0].token_ids for draft in judged.drafts)
    assert (request.limit, request.end) == (CONFIG.rollout.max_new_tokens, tokenizer.completion("x")[-1])
    assert "Hint" not in "".join(tokenizer.decode(ids) for ids in request.prompts)


def test_a_judgement_may_end_in_any_token_at_which_the_engine_stops(tokenizer: Tokenizer, tmp_path: Path) -> None:
    judged, other = chosen(tokenizer, tmp_path, sampled=NAMES[:9], kept=NAMES[:9], count=31), 1_000_000
    decode = lambda ids: tokenizer.decode(ids[:-1])  # noqa: E731
    two: Any = SimpleNamespace(end_token=tokenizer.end_token, other_ends={other: tokenizer.end_token}, decode=decode)
    judged = replace(judged, tokenizer=two)
    pairs = zip(judged.preferences, judged.drafts, strict=True)
    right = [tokenizer.completion(judgement(p, d.views[0].permutation, "r"))[:-1] for p, d in pairs]
    assert judged.request().ends == (tokenizer.end_token, other)
    assert judged.accuracy([(*ids, other) for ids in right]) == 1
    assert judged.accuracy([(*ids, 5) for ids in right]) == 0, "cut short"


class FakeRank:
    """A rank of a fine-tuning of three steps that is measured at 0, 2 and 3; writes right judgements from version 2 on."""

    def __init__(self, rank: int, judged: JudgedPrompts) -> None:
        self.rank, self.version, self.unsettled, self.told = rank, 0, True, list[float]()
        prompts = zip(judged.preferences, judged.drafts, strict=True)
        self.right = {
            d.views[0].token_ids: judged.tokenizer.completion(judgement(p, d.views[0].permutation, "r")) for p, d in prompts
        }

    def step(self) -> SFTReport | None:
        assert not self.unsettled
        if self.version == 3:
            return None
        self.version += 1
        self.unsettled = self.version >= 2
        heldout = 1.0 if self.unsettled else None
        return SFTReport(
            version=self.version, loss=1.0, heldout_loss=heldout, best=0, unsettled=self.unsettled, metrics={"sft/loss": 1.0}
        )

    def judge(self, request: GreedyRequest) -> list[tuple[int, ...]]:
        return [self.right[ids] if self.version >= 2 else (5,) for ids in share(request.prompts, self.rank, 2)]

    def settle(self, accuracy: float) -> SFTStatus:
        self.told.append(accuracy)
        self.unsettled = False
        return self.status()

    def status(self) -> SFTStatus:
        return SFTStatus(version=self.version, best=self.version, best_loss=1.0, best_accuracy=None, unsettled=self.unsettled)


def test_all_ranks_are_told_the_accuracy_at_each_measurement(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ray", LocalRay)
    judged = chosen(tokenizer, tmp_path, sampled=NAMES[:9], kept=NAMES[:9], count=31)
    assert len(judged.drafts) % 2, f"the ranks need unequal shares of {len(judged.drafts)}"
    inner = [FakeRank(rank, judged) for rank in range(2)]
    ranks, reports = [LocalActor(rank) for rank in inner], list[SFTReport]()
    cluster: Any = SimpleNamespace(start_ranks=lambda ranks: [], await_all=lambda waiting: None)
    status = _run_to_end(cluster, CONFIG, ranks, judged, reports.append)
    for rank in ranks:
        rank.end()
    assert [rank.told for rank in inner] == [[0.0, 1.0, 1.0]] * 2
    assert [report.best for report in reports] == [0, 2, 3]
    assert [report.metrics.get("sft/heldout_accuracy") for report in reports] == [None, 1.0, 1.0]
    assert status.version == 3
