"""The result of an evaluation in one sentence, and the meaning of every figure beside the figures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from configs.load import load
from grm.benchmarks import Item, Sample, table
from launch.judging.answer_quality import quality
from launch.judging.evaluated import Evaluated
from launch.judging.figure_meanings import MEANINGS, kind_of, markdown, meaning, meanings
from launch.judging.results import write_evaluation
from launch.judging.results_headline import headline
from launch.judging.results_terminal import print_evaluation
from tests.launch.page.test_run_page import Page
from tests.launch.whole_run import ROOT


def item(number: int, scores: tuple[int, ...], *, label: int = 0, votes: int = 4) -> Item:
    """Judged greedily and by votes, all with the same scores."""
    sample = Sample(scores=scores, permutation=tuple(range(len(scores))), tokens=9, failure="", meta=0.5)
    return Item(id=f"{number}", subset="", label=label, lengths=(9, 3)[: len(scores)], greedy=sample, votes=(sample,) * votes)


def found(items: Sequence[Item], *, data: Sequence[str] = ("rows.jsonl",), ks: Sequence[int] = (1, 4)) -> Evaluated:
    rows = table(items, ks=ks, resamples=50)
    named: dict[str, Any] = {"model": "/home/me/runs/mine/judge", "data": list(data)}
    return Evaluated(rows=rows, named=named, failed={}, quality=quality([]))


def pairs(right: int, wrong: int) -> list[Item]:
    return [item(i, (9, 2) if i < right else (2, 9)) for i in range(right + wrong)]


def sentence(evaluated: Evaluated) -> str:
    result = headline(evaluated)
    assert result is not None
    return result.sentence.replace("\u00a0", " ")


def test_it_names_judge_data_accuracy_interval_and_judges_without_a_model() -> None:
    said = sentence(found(pairs(15, 5)))
    assert re.fullmatch(
        r"mine-judge finds the best response in 75\.0 % of 20 preferences of rows\.jsonl \(95 % interval [\d.]+ to [\d.]+ %\),"
        r" with 4 votes in 75\.0 % \([\d.]+ to [\d.]+ %\); without a model: guessing 50\.0 %, the longest response 100\.0 %,"
        r" the shortest response 0\.0 %\. These rows do not show that it is better than the longest response\.",
        said,
    ), said


def test_it_has_no_doubt_where_the_interval_is_above_every_judge_without_a_model() -> None:
    mixed = [item(i, (9, 2) if i % 2 == 0 else (2, 9), label=i % 2) for i in range(40)]
    assert "do not show" not in sentence(found(mixed)), "right everywhere; the longest and the shortest in half of them"


def test_it_does_without_votes_and_with_many_data_sets() -> None:
    said = sentence(found(pairs(3, 1), data=[f"{name}.jsonl" for name in "abcde"], ks=()))
    assert "4 preferences of a.jsonl, b.jsonl, c.jsonl and 2 more (" in said
    assert "votes" not in said


def test_single_responses_have_the_area_and_no_accuracy() -> None:
    single = [item(i, (score,), label=label) for i, (score, label) in enumerate([(9, 1), (2, 0), (8, 1), (3, 0)])]
    said = sentence(found(single))
    assert said.startswith("mine-judge scores a right response above a wrong one in 100.0 % of the cases (95 % interval ")
    assert "on 4 single responses of rows.jsonl" in said
    assert "without a model: guessing 50.0 %" in said


def test_where_nothing_was_judged_greedily_there_is_none() -> None:
    votes_alone = [Item(id="a", subset="", label=0, lengths=(9, 3), greedy=None, votes=item(0, (9, 2)).votes)]
    assert headline(found(votes_alone)) is None


def test_the_page_and_the_terminal_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = found(pairs(15, 5))
    write_evaluation(tmp_path, evaluated, config=load("tiny", ["tracking.mode=disabled"]))
    page = Page((tmp_path / "report.html").read_text())
    result = headline(evaluated)
    assert result is not None
    assert result.sentence in page.text
    print_evaluation(evaluated)
    assert f"result     {sentence(evaluated)}" in capsys.readouterr().out.replace("\u00a0", " ")


def test_every_figure_of_the_page_has_its_meaning_at_its_name_and_below(tmp_path: Path) -> None:
    evaluated = found(pairs(15, 5))
    write_evaluation(tmp_path, evaluated, config=load("tiny", ["tracking.mode=disabled"]))
    page = Page((tmp_path / "report.html").read_text())
    names = evaluated.rows[-1].figures
    assert [name for name in names if not meaning(name)] == []
    explained = [attributes["title"] for name, attributes in page.tags if name == "th" and "title" in attributes]
    assert [meaning(name) for name in names] == explained[-len(names) :]
    for kind, words in meanings(names).items():
        assert f"{kind}{words}" in page.text


def test_each_name_of_the_definitions_is_explained_and_no_other() -> None:
    """The head of grm/benchmarks.py defines them."""
    text = (ROOT / "grm" / "benchmarks.py").read_text(encoding="utf-8").split('"""')[1]
    blocks = [line[4:].split("  ")[0] for line in text.splitlines() if re.match(r"    \w", line)]
    defined = {name.strip() for block in blocks for name in block.split(",")}
    assert {"greedy", "shuffled@k", "auc_guided@k", "vote_tokens", "position_i"} <= defined
    assert defined == set(MEANINGS)


def test_the_document_holds_the_same_words() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert markdown() in page, "put what python -m launch.judging.figure_meanings prints into docs/evaluation.md"


@pytest.mark.parametrize("name", ["vote@8", "position_2", "guided@32_quarter", "greedy"])
def test_a_kind_stands_for_all_of_its_numbers(name: str) -> None:
    assert kind_of(name) in MEANINGS
    assert meaning(name)
