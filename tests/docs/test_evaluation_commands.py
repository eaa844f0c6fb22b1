"""Each command of docs/evaluation.md runs, with a fake server at the address of the served judge. Each figure is explained."""

import json
import re
import shlex
from pathlib import Path

import pytest

from launch.evaluate import main
from tests.launch.conftest import judge_server
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer, scored
from tests.launch.whole_run import ROOT, evaluate_to_end

__all__ = ["judge_server"]  # a fixture

DOCUMENT = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000/v1"


def commands() -> list[list[str]]:
    """The arguments of each command, behind the entry."""
    blocks = re.findall(r"^```bash\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines() if line]
    assert all(line[:2] == [".venv/bin/python", "launch/evaluate.py"] for line in lines)
    return [line[2:] for line in lines]


def figures_of(folder: Path) -> set[str]:
    """The figures that are written below a folder, with k and i for numbers."""
    names: set[str] = set()
    for path in folder.rglob("table.json"):
        names |= json.loads(path.read_text())["subsets"]["overall"]["figures"].keys()
    return {re.sub(r"position_\d+", "position_i", re.sub(r"@\d+", "@k", name)) for name in names}


def explained() -> set[str]:
    return set(re.findall(r"`([a-z_]+(?:@k\w*)?)`", DOCUMENT))


def test_the_commands_of_a_served_judge_run_in_their_order(
    judge_server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(tmp_path / "pairs.jsonl", *ROWS)
    monkeypatch.chdir(tmp_path)
    judge_server.reply = reply
    judge_server.paths["/classify"] = lambda body: scored(float("good" in str(body["messages"][-1])))
    served = [each for each in commands() if "tiny" not in each]
    assert len(served) >= 8
    for arguments in served:
        own = [judge_server.url if each == ADDRESS else each for each in arguments]
        quiet = [] if "--compare" in own else ["tracking.mode=disabled"]
        assert main([*own, *quiet]) == 0, (own, capsys.readouterr())
    found = figures_of(tmp_path)
    assert {"vote@k", "picks_longest", "ece@k", "auc_greedy"} <= found
    assert sorted(found - explained()) == []
    assert (tmp_path / "evaluations" / "judge" / "pairs" / "report.html").exists()
    assert {path.name for path in (tmp_path / "thinking-off").iterdir()} >= {"table.json", "judge_outputs.jsonl"}


@pytest.mark.full
def test_the_command_of_a_model_runs(tmp_path: Path) -> None:
    (arguments,) = [each for each in commands() if "tiny" in each]
    evaluate_to_end(tmp_path, *arguments)
    assert sorted(figures_of(tmp_path) - explained()) == []
