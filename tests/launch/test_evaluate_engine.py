"""The evaluation of the tiny base policy on a real engine, started as a user does, and started again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launch.whole_run import ROOT, environment, mentioning

COUNT, REMOVED = 24, 5


def evaluated(out: Path) -> str:
    """Run the evaluation to its end. Returns what it prints."""
    options = ["--config", "tiny", "--model", "tiny", "--data", f"tinyheld:3:{COUNT}", "--k", "1,2,4", "--out", str(out)]
    command = [sys.executable, str(ROOT / "launch" / "evaluate.py"), *options, "tracking.mode=disabled", "eval.temperature=1.0"]
    done = subprocess.run(
        command,
        cwd=out.parent,
        env=environment(),
        text=True,
        timeout=900,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


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
    assert all(len(row["samples"]) == 2 + 4 for row in rows)
    votes = {tuple(sample["text"] for sample in row["samples"][2:]) for row in rows}
    assert any(len(set(texts)) > 1 for texts in votes), "at this temperature votes differ"
    figures = json.loads((out / "table.json").read_text())["subsets"]["overall"]["figures"]
    assert figures["parse_rate"]["value"] > 0.9, "the base policy keeps the format"
    assert {f"vote@{k}" for k in (1, 2, 4)} <= figures.keys()
    assert not mentioning(str(out)), "no process outlives the evaluation"


@pytest.mark.full
def test_a_second_start_judges_what_is_missing_and_writes_the_same(out: Path) -> None:
    first, table = judgements(out), json.loads((out / "table.json").read_text())
    (out / "judgements.jsonl").write_text("".join(f"{line}\n" for line in first[:-REMOVED]))
    output = evaluated(out)
    assert f"{COUNT - REMOVED} of {COUNT} preferences are in judgements.jsonl already" in output
    assert judgements(out) == first
    assert json.loads((out / "table.json").read_text()) == table
