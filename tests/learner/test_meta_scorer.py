"""The meta-RM that only scores, against transformers' own classifier."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from learner import models
from learner.batching import PromptGroup
from learner.meta_scorer import MetaScorer
from tests import random_models
from tests.learner.run_by_hand import config

KINDS = ("llama", "qwen3", "gemma2")


def trained(folder: Path, base: Path) -> Path:
    """Return a meta-RM folder as the learner saves it, with a head that is not 0."""
    model = models.load_classifier(str(base), "float32", "cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        model.get_parameter(models.HEAD).normal_()
    models.save_model(model, model.state_dict(), str(base), folder)
    return folder


def random_groups(count: int, *, seed: int = 0) -> list[PromptGroup]:
    """Return prompts with 1..4 completions each, of many lengths."""
    rng = random.Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [rng.randrange(4, 250) for _ in range(rng.randint(least, most))]

    return [(ids(2, 40), [ids(1, 20) for _ in range(rng.randint(1, 4))]) for _ in range(count)]


def by_transformers(folder: Path, groups: list[PromptGroup]) -> list[list[float]]:
    """Return the logits, one row at a time: no padding, no shared prefix, no mask."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return [[model(torch.tensor([[*prompt, *ids]])).logits.item() for ids in group] for prompt, group in groups]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_a_plain_classifier_in_the_order_of_the_groups(kind: str, tmp_path: Path) -> None:
    folder = trained(tmp_path / "meta", random_models.make(tmp_path / "base", kind))
    scorer = MetaScorer(config(folder, meta_rm={"micro_tokens": 128}), model_path=str(folder))
    groups = random_groups(9)
    scored, expected = scorer.score(groups), by_transformers(folder, groups)
    assert [len(row) for row in scored] == [len(completions) for _, completions in groups]
    flat, plain = (torch.tensor([logit for row in rows for logit in row]) for rows in (scored, expected))
    assert plain.std() > 0.1, "or any order would do"
    assert (flat - plain).abs().max() < 1e-5 * max(1.0, float(plain.abs().max()))


def test_other_groups_in_the_call_change_nothing(tmp_path: Path, model: Path) -> None:
    folder = trained(tmp_path / "meta", model)
    scorer = MetaScorer(config(folder), model_path=str(folder))
    groups = random_groups(6)
    whole = scorer.score(groups)
    alone = [scorer.score([group])[0] for group in groups]
    backwards = scorer.score(groups[::-1])[::-1]
    for other in (alone, backwards):
        for row, again in zip(whole, other, strict=True):
            assert again == pytest.approx(row, abs=1e-5)


def test_no_groups_have_no_scores(tmp_path: Path, model: Path) -> None:
    folder = trained(tmp_path / "meta", model)
    scorer = MetaScorer(config(folder), model_path=str(folder))
    assert scorer.ready() == "meta-rm"
    assert scorer.score([]) == []


def test_a_model_that_is_no_meta_rm_is_refused(model: Path) -> None:
    with pytest.raises(ValueError, match=r"is no meta-RM \(a model with a scalar head\); give checkpoints/meta-rm/"):
        MetaScorer(config(model), model_path=str(model))
