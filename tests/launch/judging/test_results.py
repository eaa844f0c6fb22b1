"""What an evaluation leaves: rewardbench's rows, the table, and a page on which hostile names are text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from configs.load import load
from grm.benchmarks import Item, Sample, TableRow, table
from grm.preferences import Preference, Question
from launch.judging import results_terminal
from launch.judging.answer_quality import quality
from launch.judging.evaluated import Evaluated
from launch.judging.results import rewardbench_rows, write_evaluation
from launch.judging.results_terminal import fitting, print_table
from tests.launch.page.test_run_page import INVISIBLE, OWN_TAGS, Page

HOSTILE = '<img src=x onerror=alert(1)> [/bold] [red]x :smile: \x1b[2J\u202e "quoted"'


def sample(scores: tuple[int, ...] | None, n: int = 2) -> Sample:
    return Sample(scores=scores, permutation=tuple(range(n)), tokens=12, failure="" if scores else "no_box", meta=0.5)


def item(name: str, scores: tuple[int, ...] | None, *, label: int = 0, subset: str = "", n: int = 2) -> Item:
    judged = sample(scores, n)
    return Item(id=name, subset=subset, label=label, lengths=(9,) * n, greedy=judged, votes=(judged,) * 2)


def preference(name: str, n: int = 2, label: int = 0) -> Preference:
    return Preference(question=Question(id=name, query=f"query {name}", responses=("text",) * n), label=label)


def counted(*subsets: str) -> list[TableRow]:
    items = [item(f"{subset} {i}", (9, 2), label=i, subset=subset) for subset in subsets for i in (0, 1)]
    return table(items, ks=[1, 2], resamples=10)


def left(folder: Path, rows: list[TableRow], *, failed: dict[str, str] | None = None, model: str = "m") -> Path:
    config = load("tiny", ["tracking.mode=disabled"])
    named = {"model": model, "meta_rm": "", "data": ["d"]}
    write_evaluation(folder, Evaluated(rows=rows, named=named, failed=failed or {}, quality=quality([])), config=config)
    return folder


def test_rewardbench_rows_are_the_pairs_in_order() -> None:
    preferences = [
        preference("right", label=1),
        preference("unjudged"),
        preference("three", 3),
        preference("tie"),
        preference("unparsable"),
        preference("single", 1),
        preference("wrong"),
    ]
    items = [
        item("wrong", (2, 3)),
        item("unparsable", None),
        item("tie", (5, 5)),
        item("three", (1, 2, 3), n=3),
        item("right", (2, 9), label=1),
        item("single", (9,), n=1),
    ]
    written = list(rewardbench_rows(preferences, items))
    assert [(row["id"], row["subset"]) for row in written] == [(name, "") for name in ("right", "tie", "unparsable", "wrong")]
    assert (written[0]["text_chosen"], written[0]["text_rejected"]) == tuple(
        preferences[0].question.responses[i] for i in (1, 0)
    )
    own = ("prompt", "results", "scores_chosen", "scores_rejected")
    assert [{name: row[name] for name in own} for row in written] == [
        {"prompt": "query right", "results": 1, "scores_chosen": 9, "scores_rejected": 2},
        {"prompt": "query tie", "results": 0, "scores_chosen": 5, "scores_rejected": 5},
        {"prompt": "query unparsable", "results": 0, "scores_chosen": 0, "scores_rejected": 0},
        {"prompt": "query wrong", "results": 0, "scores_chosen": 2, "scores_rejected": 3},
    ]


def test_table_json_holds_every_figure_with_its_interval(tmp_path: Path) -> None:
    rows = counted("a", "b")
    left(tmp_path, rows, failed={"x": "the server said no"})
    whole = json.loads((tmp_path / "table.json").read_text())
    assert (whole["model"], whole["data"], whole["failed"]) == ("m", ["d"], {"x": "the server said no"})
    assert list(whole["subsets"]) == ["a", "b", "overall"]
    assert whole["subsets"]["a"]["rows"] == 2
    overall = rows[-1].figures["vote@2"]
    assert whole["subsets"]["overall"]["figures"]["vote@2"] == {
        "value": overall.value,
        "low": overall.low,
        "high": overall.high,
        "rows": 4,
    }
    (record,) = (json.loads(line)["metrics"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert record == {
        "eval/version": 0,
        "eval/accuracy@1": 0.5,
        "eval/parse_rate@1": 1.0,
        "eval/strict_parse_rate@1": 1.0,
        "eval/accuracy@2": 0.5,
        "eval/meta_accuracy@2": 0.5,
    }


def test_single_responses_alone_have_no_accuracy(tmp_path: Path) -> None:
    items = [item(str(i), (score,), label=i, n=1) for i, score in enumerate((2, 9))]
    left(tmp_path, table(items, ks=[1], resamples=10))
    (record,) = (json.loads(line)["metrics"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert record == {"eval/version": 0, "eval/parse_rate@1": 1.0, "eval/strict_parse_rate@1": 1.0}
    page = Page((tmp_path / "report.html").read_text())
    assert "auc_vote@1" in page.text
    assert "Inference-time scaling" not in page.text, "the curve is of accuracies"


def test_the_page_refers_to_nothing_outside(tmp_path: Path) -> None:
    source = (left(tmp_path, counted("a", "b")) / "report.html").read_text()
    page = Page(source)
    assert {name for name, _ in page.tags} <= OWN_TAGS
    names = {key for _, attributes in page.tags for key in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"src", "srcset", "href", "xlink:href", "action", "data", "background", "poster", "formaction"}
    assert "default-src 'none'" in source
    assert not re.search(r"url\(|@import", source)
    assert "overall (4)a (2)b (2)" in page.text
    assert "Inference-time scaling" in page.text
    assert "k votes12" in page.text, "a column for each number of votes"
    assert "votes_needed@k1.0" in page.text
    assert "vote@250\u00a0%" in page.text
    assert "got no answer" not in page.text


@pytest.mark.parametrize(("failed", "text"), [(["x"], "1 preference got no answer."), (["x", "y"], "2 preferences got no")])
def test_the_page_names_what_failed(tmp_path: Path, failed: list[str], text: str) -> None:
    left(tmp_path, counted("a"), failed=dict.fromkeys(failed, "why"))
    assert text in Page((tmp_path / "report.html").read_text()).text


def test_hostile_names_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = counted(HOSTILE, "b")
    source = (left(tmp_path, rows, model=HOSTILE) / "report.html").read_text()
    page = Page(source)
    assert {name for name, _ in page.tags} <= OWN_TAGS
    assert not INVISIBLE.search(source)
    assert page.text.count("<img src=x onerror=alert(1)> [/bold] [red]x :smile: [U+001B][2J[U+202E]") == 4
    print_table(rows)
    text = capsys.readouterr().out
    assert "<img src=x onerror=alert(1)> [/bold] [red]x :smile: �[2J� " in text
    assert not INVISIBLE.search(text)


def test_the_page_shows_judgements_to_read(tmp_path: Path) -> None:
    """In shown order, parsed ones with principles and critique, others with their text; what they hold is text."""
    shown = {"when": "after", "version": 0, "preference": "p", "query": HOSTILE, "responses": ["first", "second"], "label": 1}
    read = {**shown, "principles": "1. Brevity", "critique": HOSTILE, "scores": [2, 9], "reward": 1.0, "failure": ""}
    lost = {**shown, "query": "Why?", "principles": "", "critique": "", "scores": [], "reward": -1.0, "failure": "no_box"}
    config = load("tiny", ["tracking.mode=disabled"])
    named = {"model": "m", "settings": {"seed": 7}, "skipped": {"two best labels": 3}}
    samples = [read, {**lost, "completion": "no idea"}]
    found = Evaluated(rows=counted("a"), named=named, failed={}, quality=quality([]), samples=samples)
    write_evaluation(tmp_path, found, config=config)
    source = (tmp_path / "report.html").read_text()
    page = Page(source)
    assert {name for name, _ in page.tags} <= OWN_TAGS
    assert not INVISIBLE.search(source)
    assert "The first 2 judgements at temperature 0, as the responses were shown, not hand-picked." in page.text
    assert all(
        text in page.text for text in ("1. Brevity", "Did not parse: no box", "no idea", "seed 7", "3 x two best labels")
    )
    assert "Response 2 \u2605 labelled best" in page.text
    assert "During training" not in page.text


def test_the_terminal_has_a_line_a_figure_and_a_line_a_subset(capsys: pytest.CaptureFixture[str]) -> None:
    subsets = [f"a subset with a long name, number {i}" for i in range(30)]
    rows = counted("", *subsets)
    print_table(rows)
    text = capsys.readouterr().out.splitlines()
    first, second = (place for place, line in enumerate(text) if not line)
    head, *lines = text[:first]
    assert head.split() == ["shares", "in", "%", "overall", "(62)", "95", "%", "interval"]
    assert [line.split()[0] for line in lines] == [name for name in rows[-1].figures if "@1" not in name]
    shown: dict[str, Any] = {line.split()[0]: line.split()[1:] for line in lines}
    assert shown["tokens"] == ["12.0", "12.0", "..", "12.0"]
    assert shown["greedy"][0] == "50.0"
    head, *lines = text[first + 1 : second]
    assert head.split() == ["shares", "in", "%", "k", "=", "1", "k", "=", "2"]
    by_k = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(by_k) == [name.replace("@2", "@k") for name in rows[-1].figures if "@2" in name]
    assert (by_k["vote@k"], by_k["votes_needed@k"], by_k["vote@k_ties_lost"]) == (["50.0"] * 2, ["1.0", "2.0"], ["50.0"] * 2)
    head, *lines = text[second + 1 :]
    assert head.split() == ["shares", "in", "%", "parse_rate", "chance", "longest", "shortest", "greedy", "vote@2", "guided@2"]
    names = [f"{subset} (2)" for subset in ("no subset", *sorted(subsets))] + ["overall, micro (62)"]
    assert [line.split("  ")[0] for line in lines] == names
    assert lines[-1].split()[-7:] == ["100.0", "50.0", "50.0", "50.0", "50.0", "50.0", "50.0"]


def test_a_narrow_terminal_spares_columns_before_it_breaks_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["parse_rate", "chance", "longest", "shortest", "greedy", "consistency", "vote@8"]
    assert fitting(names, 200) == names
    assert fitting(names, 61) == ["parse_rate", "chance", "longest", "greedy", "consistency", "vote@8"]
    assert fitting(names, 10) == ["parse_rate", "greedy", "consistency", "vote@8"], "these stay, whatever happens"
    monkeypatch.setattr(results_terminal, "LOG_WIDTH", 80)
    print_table(counted("alpacaeval-length", "safety-response/normal", "safety, where it should respond"))
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(line.startswith("safety, where it should respond (2)  ") for line in lines)


def test_one_subset_and_one_number_of_votes_need_no_second_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(table([item(f"{i}", (9, 2), label=i) for i in (0, 1)], ks=[2], resamples=10))
    text = capsys.readouterr().out.splitlines()
    assert "" not in text
    assert any(line.startswith("vote@2 ") for line in text)
