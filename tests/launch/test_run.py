"""Whole runs of real processes: what they leave behind, how they stop, how they fail."""

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from configs.load import load
from launch.judging.prepared_judge import prepare
from launch.monitoring.metrics import METRICS
from launch.setup.judge_settings import read_judge
from launch.setup.model_files import TINY
from launch.setup.model_integrity import check_model_folder
from tests import wandb_file
from tests.launch.whole_run import SMALL, SPCT, Ended, finish, mentioning, run, start, wait_for
from tests.random_models import make, teach_format

pytestmark = pytest.mark.slow

# what a run without dropped groups, and with no single response among its held-out preferences, does not record
ABSENT = {"length/dropped", "eval/auc@k", "sft/heldout_accuracy"}


@pytest.fixture(scope="module")
def tmpdir_of_it() -> Iterator[Path]:
    """An empty folder, whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tmpdir_of_it: Path) -> Ended:
    """One small run to its end, shared by the tests that look at it."""
    ended = run(tmp_path_factory.mktemp("runs"), "small", *SPCT, TMPDIR=str(tmpdir_of_it))
    assert ended.status == 0, ended.output
    return ended


def test_it_ends_with_all_steps_and_prints_where_the_report_is(done: Ended) -> None:
    assert done.summary["finished"] == "completed"
    assert done.summary["steps"] == 3
    assert f"report     {done.folder / 'report.html'}" in done.output
    assert "\x1b" not in done.output  # no terminal, no control codes


def test_every_model_says_how_it_is_asked_and_the_last_lines_where_the_judge_is(done: Ended) -> None:
    folders = [*done.folder.glob("checkpoints/*/version-*/model"), done.folder / "cold_start" / "model", done.folder / "judge"]
    assert len(folders) >= 4
    for folder in folders:
        settings = read_judge(str(folder))
        assert settings.kind == ("meta-rm" if "meta-rm" in folder.parts else "judge")
        assert settings.style == "compact"
        assert (folder / "README.md").is_file()
    judge = done.folder / "judge"
    card = (judge / "README.md").read_text()
    assert "| base, greedy |" in card
    assert "| after online RL, 4 votes |" in card
    assert f'spct.Judge("{judge}").score(query, responses)' in done.output
    opening = prepare(
        str(judge), model="", meta_rm="", engine="vllm", device="cpu", seed=0, overrides=["rollout.kv_cache_mb=256"]
    )
    assert opening.config.prompts.style == "compact"
    assert check_model_folder(str(judge), trained=True) is None


def test_what_it_leaves_behind_is_the_users_alone(done: Ended) -> None:
    """Its folders, and the driver's files. What ranks write into a checkpoint lies behind the checkpoint's folder."""
    folders = [done.folder, *(path for path in done.folder.iterdir() if path.is_dir()), *done.folder.glob("checkpoints/*")]
    assert {path.name for path in folders} >= {"redis", "stacks", "votes", "cold_start", "wandb", "checkpoints", "policy"}
    files = [path for path in (*done.folder.iterdir(), *done.folder.glob("votes/*")) if path.is_file()]
    assert {"config.yaml", "samples.jsonl", "metrics.jsonl", "report.html"} <= {path.name for path in files}
    assert [str(path) for path in (*folders, *files) if path.stat().st_mode & 0o077] == []


def test_it_leaves_nothing_in_tmpdir(done: Ended, tmpdir_of_it: Path) -> None:
    assert [path.name for path in tmpdir_of_it.iterdir()] == []


def test_the_summary_holds_what_it_promises(done: Ended) -> None:
    summary = done.summary
    assert set(summary["accuracy"]) == {"before", "cold_start", "after"}
    assert 0 <= summary["accuracy"]["after"] <= 1
    assert summary["parse_rate"]["before"] > 0.9
    assert summary["staleness"]["max"] <= summary["staleness"]["bound"] == 1
    assert summary["groups"]["trained"] == 12
    groups = summary["groups"]
    settled = groups["trained"] + groups["filtered"] + groups["dropped"] + groups["dead_letter"]
    assert settled <= groups["issued"] <= settled + load("tiny", SMALL).credit
    assert summary["heldout"] == {"rows": 24, "n": [2]}
    assert summary["baselines"]["chance"] == 0.5
    assert set(summary["seconds"]) == {
        "start",
        "evaluate_before",
        "sample",
        "fine_tune",
        "evaluate_cold_start",
        "vote_cold_start",
        "train",
        "evaluate_after",
        "vote_after",
        "count_votes",
        "total",
    }
    verdicts, examples = summary["cold_start"]["verdicts"], summary["cold_start"]["examples"]
    assert sum(verdicts.values()) == 24 * (3 + 1)
    assert (examples["plain"], examples["hinted"]) == (verdicts["kept"], verdicts["hinted_kept"])
    assert summary["cold_start"]["steps"] == 6
    assert summary["meta_rm"]["examples"] >= 16


def test_the_resolved_config_can_be_run_again(done: Ended) -> None:
    config = load(done.folder / "config.yaml")
    assert config.grpo.steps == 3
    assert yaml.safe_load((done.folder / "config.yaml").read_text())["run"]["id"] == "small"


def test_the_wandb_file_holds_the_metric_names_of_the_design(done: Ended) -> None:
    recorded = wandb_file.read(wandb_file.find(done.folder))
    names = {re.sub(r"@\d+$", "@k", name) for row in recorded.history for name in row}
    assert {name for name in METRICS if name not in names} <= ABSENT
    assert recorded.series("staleness/max") == done.series("staleness/max")
    for when in ("before", "during", "after"):
        assert any(name.startswith(f"samples/{when}") for name in names)


def test_checkpoints_load_in_transformers_and_hold_the_trained_policy(done: Ended) -> None:
    (folder,) = (done.folder / "checkpoints" / "policy").iterdir()
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    base = AutoModelForCausalLM.from_pretrained(TINY)
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True)]
    assert any(moved)
    assert AutoTokenizer.from_pretrained(folder / "model").chat_template
    (meta,) = (done.folder / "checkpoints" / "meta-rm").iterdir()
    assert AutoModelForSequenceClassification.from_pretrained(meta / "model").config.num_labels == 1


def test_votes_are_counted_for_both_policies_with_and_without_the_meta_rm(done: Ended) -> None:
    votes = done.summary["votes"]
    assert set(votes) == {"cold_start", "after"}
    for figures in votes.values():
        assert {f"{kind}@{k}" for kind in ("vote", "guided", "majority") for k in (1, 2, 4)} <= set(figures)
        assert figures["vote@4"]["rows"] == 8
    scored = [json.loads(line) for line in (done.folder / "votes" / "meta-after.jsonl").read_text().splitlines()]
    assert {len(row["meta"]) for row in scored} == {2 + 4}  # the greedy judgements in both orders, and the votes
    assert "Stage by stage" in (done.folder / "report.html").read_text()


def test_the_cold_starts_policy_loads_and_is_where_training_began(done: Ended) -> None:
    model = AutoModelForCausalLM.from_pretrained(done.folder / "cold_start" / "model")
    assert model.num_parameters() == AutoModelForCausalLM.from_pretrained(TINY).num_parameters()
    rows = [json.loads(line) for line in (done.folder / "cold_start" / "dataset.jsonl").read_text().splitlines()]
    assert rows
    assert not any("Hint:" in row["prompt"] for row in rows)  # I6: hinted prompts never reach training text


def test_samples_before_and_after_show_the_same_preferences(done: Ended) -> None:
    rows = [json.loads(line) for line in (done.folder / "samples.jsonl").read_text().splitlines()]
    shown = {when: [row["preference"] for row in rows if row["when"] == when] for when in ("before", "after")}
    assert shown["before"] == shown["after"]
    assert len(shown["before"]) == 3
    assert all(row["principles"] or row["failure"] for row in rows)


def test_nothing_is_left_behind(done: Ended) -> None:
    assert not mentioning(str(done.folder))
    assert not list((done.folder / "redis").glob("*.sock"))


def own_template(folder: Path) -> tuple[str]:
    """The template that the tiny tokenizer knows, as a user's own template."""
    for name in ("compact.txt", "compact_single.txt"):
        (folder / f"my_{name}").write_bytes((resources.files("grm") / "templates" / name).read_bytes())
    return (f"prompts.template_path={folder / 'my_compact.txt'}",)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["qwen3", "gemma2"])
def test_the_gpu_presets_code_runs_on_a_small_model_of_their_architecture(kind: str, tmp_path: Path) -> None:
    preset = {"qwen3": "qwen3-8b", "gemma2": "gemma2-27b"}[kind]
    model = teach_format(make(tmp_path / "model", kind, tokenizer=str(TINY)))
    small = (
        "cluster.device=cpu",
        f"model.path={model}",
        "model.billions=0.0",
        "model.context=512",
        *own_template(tmp_path),
        "data.train=tiny:1:200:2",
        "data.heldout=tinyheld:2:8:2",
        "rollout.workers=1",
        "rollout.max_new_tokens=48",
        "grpo.steps=2",
        "grpo.batch_groups=4",
        "learner.ranks=1",
        "meta_rm.ranks=1",
        "meta_rm.batch=16",
        "eval.every=0",
        "cold_start.preferences=8",
        "cold_start.steps=2",
        "cold_start.batch=8",
        "eval.votes=[1,2]",
        "eval.votes_limit=4",
    )
    if kind == "gemma2":  # the cold start and the votes are those of the other preset
        small = (*small, "cold_start.enabled=false", "eval.votes=[]")
    ended = run(tmp_path, kind, *small, config=preset)
    assert ended.status == 0, ended.output
    assert ended.summary["steps"] == 2
    assert ended.summary["parse_rate"]["before"] > 0.5
    assert max(ended.series("off_policy/mismatch_kl")) < 1e-3  # vLLM's and the learner's log-probs agree


def test_a_wider_bound_is_used_and_kept_and_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:  # SIGTERM: test_ray_job.py
    more = ("grpo.max_staleness=4", "grpo.steps=1000", "eval.every=0", "meta_rm.enabled=false")
    process = start(tmp_path, "stopped", *SMALL, *more, process_group=0)
    wait_for(tmp_path / "stopped", '"learner/version": 10.0', process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    ended = finish(process, tmp_path / "stopped", timeout_s=120)
    assert ended.status == 130, ended.output
    assert ended.summary["finished"] == "stopped"
    staleness = ended.series("staleness/max")
    assert max(staleness) <= 4
    assert max(staleness) > 1  # the bound is what holds it, not idleness
    assert "Traceback" not in ended.output
    assert (ended.folder / "report.html").is_file()
    assert not mentioning(str(ended.folder))
