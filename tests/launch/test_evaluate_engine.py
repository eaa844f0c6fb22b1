"""The evaluation of the tiny base policy on a real engine, started as a user does, and started again; a judge in this process
beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import spct
from configs.load import load
from grm.sources import load as load_preferences
from launch.judging.vote_plan import vote_plan
from launch.setup.model_files import TINY
from launch.setup.preference_data import load_heldout
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer
from tests.launch.whole_run import LENGTHS, evaluate_to_end, mentioning

COUNT, REMOVED = 24, 5
# the preset's, which a judge of a plain folder is told
SETTINGS = (*LENGTHS, "rollout.kv_cache_mb=256", "eval.temperature=1.0")


def evaluated(out: Path) -> str:
    """Run the evaluation to its end. Returns what it prints."""
    options = ["--config", "tiny", "--model", "tiny", "--data", f"tinyheld:3:{COUNT}", "--k", "1,2,4", "--out", str(out)]
    return evaluate_to_end(out.parent, *options, "eval.temperature=1.0", "eval.expected_scores=true")


def judgements(out: Path) -> list[str]:
    return (out / "judgements.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that ran to its end."""
    folder = tmp_path_factory.mktemp("evaluated") / "out"
    assert f"judged {COUNT} of {COUNT} preferences, 4 votes each" in evaluated(folder)
    return folder


@pytest.mark.slow
def test_a_model_is_judged_greedily_and_by_votes(out: Path) -> None:
    lines = judgements(out)
    assert len(lines) == 1 + COUNT
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines[1:]]
    kinds = [[sample["kind"] for sample in row["samples"]] for row in rows]
    orders = [min(2, len(row["samples"][0]["permutation"])) for row in rows]  # a single response has one
    assert kinds == [["greedy"] * count + ["vote"] * 4 for count in orders]
    votes = {tuple(sample["text"] for sample in row["samples"][-4:]) for row in rows}
    assert any(len(set(texts)) > 1 for texts in votes), "at this temperature votes differ"
    figures = json.loads((out / "table.json").read_text())["subsets"]["overall"]["figures"]
    assert figures["parse_rate"]["value"] > 0.9, "the base policy keeps the format"
    assert {f"vote@{k}" for k in (1, 2, 4)} | {"expected", "expected_summed", "consistency"} <= figures.keys()
    assert not mentioning(str(out)), "no process outlives the evaluation"


@pytest.mark.slow
def test_expected_scores_are_those_of_the_model(out: Path) -> None:
    """Against transformers: the mean over its probabilities of the scores, where the first one stands."""
    config = load("tiny", [f"data.heldout=[tinyheld:3:{COUNT}]", "data.heldout_limit=0"])
    plan = vote_plan(config, prompt_template(config), 0)
    questions = {p.question.id: p.question for p in load_heldout(config, beside=()).preferences}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32), Tokenizer(str(TINY))
    checked = 0
    for row in (json.loads(line) for line in judgements(out)[1:]):
        for sample in (each for each in row["samples"] if each["kind"] == "greedy"):
            head, box, _ = sample["text"].rpartition("boxed{")
            if sample["scores"] is None or not box:
                continue
            order = sample["permutation"]
            prompt = tokenizer.encode(plan.message(questions[row["id"]], order, tokenizer.escape_special_tokens))
            ids = torch.tensor([[*prompt, *tokenizer.completion(head + box, ended=False)]])
            with torch.no_grad():
                shares = model(ids).logits[0, -1].float().softmax(-1)
            by_score = {score: shares[tokenizer.completion(f"{score}", ended=False)[0]] for score in range(1, 11)}
            mean = float(sum(score * share for score, share in by_score.items()) / sum(by_score.values()))
            assert sample["expected"][order[0]] == pytest.approx(mean, abs=1e-3)
            checked += 1
    assert checked > COUNT


@pytest.mark.slow
def test_a_judge_in_this_process_gives_the_judgements_of_an_evaluation(out: Path) -> None:
    samples = {row["id"]: row["samples"] for row in map(json.loads, judgements(out)[1:])}
    questions = [preference.question for preference in load_preferences(f"tinyheld:3:{COUNT}").preferences]
    with spct.Judge("tiny", engine="vllm", device="cpu", overrides=SETTINGS) as judge:
        voted, greedy = judge.score_many(questions, votes=4), judge.score_many(questions, votes=0)
    for question, *scored in zip(questions, greedy, voted, strict=True):
        found = [(judgement.text, judgement.scores) for each in scored for judgement in each.judgements]
        assert found == [(s["text"], s["scores"] and tuple(s["scores"])) for s in samples[question.id]]


@pytest.mark.full
def test_a_second_start_judges_what_is_missing_and_writes_the_same(out: Path) -> None:
    first, table = judgements(out), json.loads((out / "table.json").read_text())
    (out / "judgements.jsonl").write_text("".join(f"{line}\n" for line in first[:-REMOVED]))
    output = evaluated(out)
    assert f"{COUNT - REMOVED} of {COUNT} preferences are in judgements.jsonl already" in output
    assert judgements(out) == first
    assert json.loads((out / "table.json").read_text()) == table
