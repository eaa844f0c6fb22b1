"""The examples run on a CPU: scripts with the base policy of the small world, and each cell of the notebook in its order."""

import ast
import json
from pathlib import Path

import pytest

from examples import best_of_n, judge_file
from tests.launch.whole_run import ROOT

EXAMPLES = ROOT / "examples"
BASE = ["--engine", "transformers", "--set", "prompts.style=compact", "--set", "model.context=256"]
BASE += ["--set", "rollout.max_new_tokens=64"]


def test_judge_file_writes_a_row_for_each_preference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "judged.jsonl"
    judge_file.main(["tiny", "tinyheld:7:4:2", str(out), "--votes", "2", *BASE])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 4
    assert all(len(row["scores"]) == 2 and row["critique"] for row in rows if row["scores"] is not None)
    assert any(row["scores"] is not None for row in rows)
    assert " of 4 as labelled" in capsys.readouterr().out


def test_best_of_n_prints_the_answers_with_the_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    policy = str(ROOT / "grm" / "tiny_base")
    more = ["--n", "2", "--votes", "2", "--max-new-tokens", "8", *BASE]
    best_of_n.main([policy, "tiny", "Rule red: answer.", *more])
    scores = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines() if line[:5].strip()]
    assert scores
    assert scores == sorted(scores, reverse=True)


@pytest.mark.full
@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    notebook = json.loads((EXAMPLES / "first_judge.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, object] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells)  # no machine's output is committed
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        assert number == 0 or capsys.readouterr().out.strip(), f"cell {number} shows something"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_says_what_it_is_and_how_it_is_run(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"examples/{path.name}" in said
