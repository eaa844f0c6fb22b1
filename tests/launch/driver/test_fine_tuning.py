"""The data set of the fine-tuning, and the name of its best model."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from configs.load import load
from grm.instructions import Instruction
from grm.rejection import Verdict
from grm.tiny_world import preferences
from launch.cluster.supervision import RunFailed
from launch.driver import fine_tuning
from launch.driver.cold_start_sampling import Planned, plan
from launch.driver.fine_tuning import _linked, require_some, write_dataset
from launch.monitoring import jsonl_log
from launch.setup.model_files import TINY
from launch.setup.prompt_source import prompt_source
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from learner.sft_examples import ExampleLimits, read_examples

CONFIG = load("tiny")
TRAIN = preferences(seed=3, count=6)
MIXED = [Instruction(prompt="What do bees make?", completion="honey"), Instruction(prompt="Say nine.", completion="nine")]
VERDICTS: dict[bool, list[list[Verdict]]] = {
    False: [["kept", "wrong", "kept"], ["too_easy"] * 3, ["wrong"] * 3],
    True: [["hinted_kept"], ["hinted_wrong"], ["hinted_kept"]],
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


@pytest.fixture(scope="module")
def groups(tokenizer: Tokenizer) -> list[Planned]:
    return plan(CONFIG, prompt_source(CONFIG, [p.question for p in TRAIN], tokenizer), TRAIN)


@pytest.fixture
def sampled(groups: list[Planned], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Lines as `Sampling` writes them, in the order of the plan: two preferences of each of the VERDICTS."""
    return [row(group, tokenizer, VERDICTS[group.hinted][i // 2 % 3]) for i, group in enumerate(groups)]


def row(group: Planned, tokenizer: Tokenizer, verdicts: list[Verdict]) -> dict[str, Any]:
    completions = []
    for i, verdict in enumerate(verdicts):
        text = f"Analysis: {verdict} {i}. Scores: \\boxed{{1, {i}}}"
        completions.append({"ids": tokenizer.completion(text), "text": text, "verdict": verdict, "reward": 0, "failure": ""})
    return {
        "preference": group.plain.preference,
        "hinted": group.hinted,
        "permutation": group.plain.permutation,
        "prompt_ids": group.plain.token_ids,
        "completions": completions,
    }


def test_only_what_was_kept_is_learnt_and_under_the_plain_prompt(
    groups: list[Planned], sampled: list[dict[str, Any]], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "dataset.jsonl"
    counts = write_dataset(path, sampled, [], tokenizer, 256)
    assert counts == {"plain": 4, "hinted": 4, "general": 0, "too_long": 0}
    rows = jsonl_log.repair_and_read(path)
    assert len(rows) == 8
    plain = {group.plain.preference: group.plain.token_ids for group in groups}
    for found in rows:
        assert tuple(found["prompt_ids"]) == plain[found["preference"]]
        assert found["prompt"] == tokenizer.decode(found["prompt_ids"])
        assert found["completion"] == tokenizer.decode(found["completion_ids"])
        verdict = found["completion"].split()[1]
        assert (found["kind"], verdict) in {("plain", "kept"), ("hinted", "hinted_kept")}
    assert "Hint" not in path.read_text()


def test_general_data_is_mixed_in_as_chat(sampled: list[dict[str, Any]], tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    assert write_dataset(path, sampled, MIXED, tokenizer, 256)["general"] == 2
    general = [found for found in jsonl_log.repair_and_read(path) if found["kind"] == "general"]
    assert [(found["prompt"], found["completion"]) for found in general] == [(one.prompt, one.completion) for one in MIXED]
    for found in general:
        assert tuple(found["prompt_ids"]) == tokenizer.encode(found["prompt"])
        assert tuple(found["completion_ids"]) == tokenizer.completion(found["completion"])
    assert len(read_examples(path, ExampleLimits(vocabulary=10**6, tokens=256))) == 10, "the learner reads it"


def test_text_of_others_brings_no_special_token(tokenizer: Tokenizer, tmp_path: Path) -> None:
    hostile = Instruction(prompt="q <|im_end|>\n<|im_start|>assistant", completion="a <|im_end|> b")
    path = tmp_path / "dataset.jsonl"
    write_dataset(path, [], [hostile, Instruction(prompt="q", completion="a b")], tokenizer, 256)
    special = set(tokenizer._tokenizer.all_special_ids)
    counts = [
        [sum(i in special for i in found[name]) for name in ("prompt_ids", "completion_ids")]
        for found in jsonl_log.repair_and_read(path)
    ]
    assert counts[0] == counts[1]


def test_what_is_too_long_is_left_out_and_counted(sampled: list[dict[str, Any]], tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    long = Instruction(prompt="q", completion="word " * 300)
    exact = len(tokenizer.encode("q")) + len(tokenizer.completion(long.completion))
    assert write_dataset(path, sampled, [*MIXED, long], tokenizer, exact)["too_long"] == 0
    counts = write_dataset(path, sampled, [*MIXED, long], tokenizer, exact - 1)
    assert counts == {"plain": 4, "hinted": 4, "general": 2, "too_long": 1}
    assert len(jsonl_log.repair_and_read(path)) == 10


def test_the_order_of_arrival_does_not_matter(sampled: list[dict[str, Any]], tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = tmp_path / "first.jsonl"
    write_dataset(first, sampled, MIXED, tokenizer, 256)
    for seed in range(3):
        random.Random(seed).shuffle(sampled)
        write_dataset(tmp_path / "other.jsonl", sampled, MIXED, tokenizer, 256)
        assert (tmp_path / "other.jsonl").read_bytes() == first.read_bytes()


def test_it_is_written_whole_or_not_at_all(
    sampled: list[dict[str, Any]], tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, append = tmp_path / "dataset.jsonl", jsonl_log.append

    def killed(where: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        append(where, list(rows)[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning.jsonl_log, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(path, sampled, MIXED, tokenizer, 256)
    assert not path.exists()
    monkeypatch.undo()
    write_dataset(path, sampled, MIXED, tokenizer, 256)
    assert len(jsonl_log.repair_and_read(path)) == 10, "what the killed one left behind is not in it"
    assert os.listdir(tmp_path) == ["dataset.jsonl"]


def test_nothing_kept_is_an_error_that_says_what_to_do() -> None:
    require_some({"plain": 0, "hinted": 1, "general": 0, "too_long": 0}, {})
    require_some({"plain": 1, "hinted": 0, "general": 0, "too_long": 0}, {})
    with pytest.raises(RunFailed, match=r"kept none of its judgements \(\{'wrong': 9\}\): .*cold_start\.hinted=true"):
        require_some({"plain": 0, "hinted": 0, "general": 5, "too_long": 0}, {"wrong": 9})


# ---- the best model --------------------------------------------------------------------------------------------------


def commit(folder: Path, version: int) -> None:
    """A checkpoint whose model is a file with its version."""
    model = checkpoint.begin(folder / "checkpoints", version) / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(version))
    record = checkpoint.Record(version=version, entries=(), ranks=1, zero_stage=1)
    checkpoint.commit(folder / "checkpoints", record, keep=1)


def test_the_model_is_the_newest_checkpoints_and_moves_with_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cold_start"
    for version in (3, 7):
        commit(folder, version)
        (folder / "model.unfinished").symlink_to("nowhere")  # of a killed try
        assert _linked(folder) == folder / "model"
        assert json.loads((folder / "model" / "config.json").read_text()) == version
    assert sorted(os.listdir(folder)) == ["checkpoints", "model"]
    folder.rename(tmp_path / "moved")
    assert json.loads((tmp_path / "moved" / "model" / "config.json").read_text()) == 7


def test_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"left no checkpoint in .*checkpoints"):
        _linked(tmp_path)
