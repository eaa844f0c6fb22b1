"""Judges in this process: transformers with the base policy of the small world, and a meta-RM. That vLLM gives the judgements
of an evaluation is in tests/launch/test_evaluate_engine.py, which has one."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import spct
from configs.load import load
from grm.sources import load as load_preferences
from launch.judging.vote_plan import vote_plan
from launch.setup.model_files import TINY
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer
from learner import models
from tests.launch.whole_run import LENGTHS

COUNT = 6
SETTINGS = (*LENGTHS, "rollout.kv_cache_mb=256", "eval.temperature=1.0")
QUESTIONS = [preference.question for preference in load_preferences(f"tinyheld:3:{COUNT}:2").preferences]


def opened(**more: object) -> spct.Judge:
    return spct.Judge("tiny", engine="transformers", device="cpu", overrides=SETTINGS, **more)


@pytest.fixture(scope="module")
def judge() -> spct.Judge:
    with opened() as judge:
        yield judge


def test_transformers_samples_by_the_seed_and_leaves_the_callers_random_numbers_alone(judge: spct.Judge) -> None:
    state = torch.random.get_rng_state()
    first = judge.score_many(QUESTIONS[:2], votes=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    assert judge.score_many(QUESTIONS[:2][::-1], votes=4) == first[::-1], "whatever is judged beside it"
    assert all(judgement.scores for scored in first for judgement in scored.judgements), "the base keeps the format"
    assert len({judgement.text for judgement in first[0].judgements}) > 1, "at this temperature votes differ"


def test_transformers_judges_greedily_as_the_model_does(judge: spct.Judge) -> None:
    config = load("tiny", ["data.heldout_limit=0"])
    plan, tokenizer = vote_plan(config, prompt_template(config), 0), Tokenizer(str(TINY))
    model = models.load_policy(str(TINY), "float32", "cpu")
    [judgement, opposite] = judge.score_many(QUESTIONS[:1], votes=0)[0].judgements
    assert judgement.order == opposite.order[::-1]
    ids = [*tokenizer.encode(plan.message(QUESTIONS[0], judgement.order, tokenizer.escape_special_tokens))]
    begun = len(ids)
    with torch.no_grad():
        while len(ids) - begun < 64 and ids[-1] != tokenizer.end_token:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert judgement.text == tokenizer.decode(ids[begun:])


def test_a_prompt_that_is_too_long_is_not_judged_and_the_others_are(judge: spct.Judge) -> None:
    lost = judge.score("q", ["a" * 2000, "b"])
    assert lost.scores is None
    assert "tokens, the limit is 192: raise model.context" in lost.error


def test_a_meta_rm_chooses_the_better_half(tmp_path: Path) -> None:
    classifier = models.load_classifier(str(TINY), "float32", "cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        classifier.get_parameter("score.weight").normal_(generator=generator)
    models.save_model(classifier, dict(classifier.state_dict()), str(TINY), tmp_path / "meta-rm")
    with opened(meta_rm=tmp_path / "meta-rm") as judge:
        [scored] = judge.score_many(QUESTIONS[:1], votes=4, meta=True)
    config = load("tiny", ["data.heldout_limit=0"])
    plan, tokenizer = vote_plan(config, prompt_template(config), 0), Tokenizer(str(TINY))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "meta-rm")
    for judgement in scored.judgements:
        prompt = tokenizer.encode(plan.message(QUESTIONS[0], judgement.order, tokenizer.escape_special_tokens))
        with torch.no_grad():
            logit = plain(torch.tensor([[*prompt, *tokenizer.completion(judgement.text)]])).logits[0, 0]
        assert judgement.meta == pytest.approx(float(logit.sigmoid()), abs=1e-4)
    by_belief = sorted(scored.judgements, key=lambda judgement: -judgement.meta)
    assert [judgement.voted for judgement in by_belief] == [True, True, False, False]
    assert scored.totals == tuple(map(sum, zip(*(judgement.scores for judgement in by_belief[:2]), strict=True)))
