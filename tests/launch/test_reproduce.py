"""Rows of the paper's table: described, run on small copies of the benchmarks (a fake server judges), compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from grm.macro import PPE_PREFERENCE, subsets
from launch.judging.paper_table import GROUPS, ROWS, SOURCES
from launch.judging.reproduction import RECIPE, read_figures, run_id
from launch.reproduce import main
from tests.grm import benchmark_files
from tests.launch.evaluation import SHOWN
from tests.launch.judging.fake_server import FakeServer, Reply, completion


def reply(body: dict[str, Any]) -> Reply:
    """9 for what is called good, else 2."""
    scores = ", ".join("9" if "good" in shown else "2" for shown in SHOWN.findall(body["messages"][0]["content"]))
    return completion(*([f"Analysis: plain.\nScores: \\boxed{{{scores}}}"] * body["n"]), tokens=7 * body["n"])


@pytest.fixture
def server(judge_server: FakeServer) -> FakeServer:
    judge_server.reply = reply
    return judge_server


def test_without_a_row_the_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ROWS)


def test_an_unknown_row_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--row", "grm-27b@64"]) == 2
    assert "no such row; choose one of grm-27b-greedy" in capsys.readouterr().err


def test_what_is_no_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--row", "ours", "--data", "mine.jsonl"]) == 2
    assert "--data mine.jsonl: is no benchmark; give bench:NAME" in capsys.readouterr().err


@pytest.mark.parametrize("name", ROWS)
def test_each_row_says_what_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--row", name, "cluster.device=cuda"]) == 0
    printed = capsys.readouterr().out
    row = ROWS[name]
    assert f"launch/evaluate.py --model {row.model or 'runs/' + run_id(name)}" in printed
    assert (f"--config {RECIPE} run.id={run_id(name)}" in printed) == (not row.model)
    assert all(override in printed for override in (*row.overrides, *row.evaluation))
    assert "M tokens" in printed
    assert set(row.paper) <= {*GROUPS}


def test_the_cost_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """2,985 pairs, 32 votes and a greedy judgement in each order, 260 tokens: 26.4M tokens, 2.9 h at 2,500 tokens/s; 900 single
    responses have one order."""
    main(["--row", "grm-27b@32", "--data", "bench:reward-bench"])
    printed = capsys.readouterr().out
    assert "about 101,490 judgements of 260 tokens = 26M tokens: 2.9 h at 2500 tokens/s (assumed" in printed
    main(["--row", "grm-27b@32", "--data", "bench:reward-bench", "eval.both_orders=false"])
    assert "about 98,505 judgements" in capsys.readouterr().out
    main(["--row", "grm-27b@8", "--data", "bench:realmistake"])
    assert "about 8,100 judgements" in capsys.readouterr().out


def deviations(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["--row", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.rpartition(": ")[2] for line in lines if line.startswith("deviates ")]


def test_what_makes_it_another_row_is_said_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = tmp_path / "released.txt"
    template.write_text("{{query}} {{responses}} {{scores}}")
    prompt, clipped, meta = f"prompts.template_path={template}", "eval.clip_scores=true", f"meta_rm.template_path={template}"
    said = ["prompts.template_path=FILE", clipped, "meta_rm.template_path=FILE"]
    assert deviations(capsys, "grm-27b-meta@8") == said
    assert deviations(capsys, "grm-16b-greedy") == said[:2]
    assert deviations(capsys, "grm-27b-meta@8", prompt, clipped, meta) == []
    general = "train with cold_start.general=[FILE]"
    assert all(deviations(capsys, name) == [general] for name in ("ours@32", "rft", "no-math"))
    assert all(deviations(capsys, name) == [] for name in ("rft-no-general", "no-rejective", "no-rejective-no-rl"))


def test_the_cold_start_alone_costs_no_online_rl(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the paper's 34.8 hours it takes 19.2."""
    main(["--row", "rft@8"])
    assert "19.2 h on 128 A100" in (printed := capsys.readouterr().out)
    assert "34.8" not in printed
    main(["--row", "ours"])
    assert "34.8 h on 128 A100" in capsys.readouterr().out


def test_a_row_of_votes_may_spare_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--row", "grm-27b@32", "--early-stop"]) == 0
    printed = capsys.readouterr().out
    assert "--k 32 --early-stop --data" in printed
    assert "cost       at most " in printed


def test_what_the_evaluation_would_refuse_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--row", "ours", "prompts.reference=true"]) == 2
    printed = capsys.readouterr()
    assert "prompts.reference" in printed.err
    assert printed.out == ""


def test_a_row_is_run_and_compared(server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every benchmark in its own schema, from a folder to a figure beside the paper's."""
    out, data = tmp_path / "out", benchmark_files.copies(tmp_path / "data")
    options = ["--row", "ours@32", "--endpoint", server.url, "--model", "judge", "--run", "--out", str(out), "--data", *data]
    assert main([*options, "tracking.mode=disabled"]) == 0, capsys.readouterr().err
    written = json.loads((out / "paper.json").read_text())
    ours = {each["benchmark"].strip(): each["ours"]["value"] for each in written["compared"]}
    assert {*ROWS["ours@32"].paper} <= {*ours}
    assert {ours[name] for name in ROWS["ours@32"].paper} == {1.0}
    assert written["figure"] == "vote@32"
    assert "88.5" in capsys.readouterr().out


def test_realmistake_is_compared_by_its_area(server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, data = tmp_path / "out", benchmark_files.copies(tmp_path / "data")
    options = ["--row", "grm-27b-greedy", "--endpoint", server.url, "--model", "judge", "--run", "--out", str(out)]
    assert main([*options, "--data", data[-1], "tracking.mode=disabled"]) == 0
    compared = {each["benchmark"]: each for each in json.loads((out / "paper.json").read_text())["compared"]}
    assert compared["ReaLMistake"]["ours"]["value"] == 1.0
    assert compared["ReaLMistake"]["paper"] == 72.2
    assert compared["RewardBench"]["ours"] is None
    assert len(compared["RewardBench"]["missing"]) == 23
    capsys.readouterr()
    assert main(["--row", "grm-27b-greedy", "--compare", str(out)]) == 0  # what was measured is compared again
    assert "not measured" in capsys.readouterr().out


def test_without_an_evaluation_there_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--row", "ours", "--compare", str(tmp_path)]) == 2
    assert "has no table.json" in capsys.readouterr().err


def test_a_lone_source_without_subsets_is_found_in_the_overall_row() -> None:
    figure = {"value": 0.6, "low": 0.5, "high": 0.7, "rows": 40}
    table = {"data": ["bench:ppe-preference@copy"], "subsets": {"overall": {"rows": 40, "figures": {"greedy": figure}}}}
    assert read_figures(table)[SOURCES[PPE_PREFERENCE.name]]["greedy"].value == 0.6
    assert subsets(PPE_PREFERENCE) == [SOURCES[PPE_PREFERENCE.name]]
