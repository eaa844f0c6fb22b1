"""The Ties of RewardBench 2, by hand and against a few plain lines."""

import random
from math import tanh

import pytest

from grm.ties import Answers, answers_of, score, ties_figure
from tests.grm.judged_items import item


def test_items_of_a_prompt_are_gathered_by_their_ids() -> None:
    items = [
        item("d.jsonl:tied:3.0", (8, 2), (6, 3), subset="Ties"),
        item("d.jsonl:tied:3.1", (7, 5), subset="Ties"),
        item("ref:3", (9, 1, 4), lengths=(1, 2, 3), subset="Ties"),
        item("other", (9, 1)),
        item("tied:4.0", None),
    ]
    assert answers_of(items) == {
        ("tied", 3): Answers(((7.0, 2.5), (7, 5))),
        ("ref", 3): Answers(((9, 4),)),
        ("tied", 4): Answers((None,)),
    }


def test_gap_and_spread() -> None:
    answers = Answers(((8, 2), (6, 5)))
    assert (answers.gap, answers.spread) == (1, 2)


def test_the_score_is_the_sum_of_its_terms() -> None:
    """Prompt 1: gaps 5 (ref) and 4 (tied), spread 1. Prompt 2: gaps 2 and 1, spread 3. Prompt 3: a tied one that is wrong."""
    answers = {
        ("ref", 1): Answers(((7, 2),)),
        ("tied", 1): Answers(((7, 2), (6, 2))),
        ("ref", 2): Answers(((6, 4),)),
        ("tied", 2): Answers(((5, 4), (8, 4))),
        ("tied", 3): Answers(((5, 6), (8, 4))),
    }
    expected = 0.3 * 2 / 3 + 0.3 * 1 + 0.2 * 1 / 2 + 0.2 * 1 / 2 + 0.01 * (tanh(4 / 1 - 1) + tanh(1 / 3 - 1)) / 2
    assert score(answers, [1, 2, 3]) == pytest.approx(expected)


def test_what_did_not_parse_earns_nothing() -> None:
    answers = {("ref", 1): Answers((None,)), ("tied", 1): Answers((None, (8, 2)))}
    assert score(answers, [1]) == -0.01, "the margin's limit"


def test_the_figure_has_an_interval_over_prompts_and_none_without_both_kinds() -> None:
    items = [each for i in range(20) for each in (item(f"ref:{i}", (9, 2)), item(f"tied:{i}.0", (9, 2) if i % 2 else (2, 9)))]
    figure = ties_figure(items, resamples=50, rng=random.Random(0))
    assert figure is not None
    assert figure.rows == 40
    no_spread = 0.01 * (10 * 1 + 10 * -1) / 20  # the limit of tanh, by the sign of the gap
    assert figure.value == pytest.approx(0.3 * 0.5 + 0.3 + 0.2 * 0.5 + 0.2 * 0.5 + no_spread)
    assert figure.low < figure.value < figure.high
    assert ties_figure([item("ref:1", (9, 2))], resamples=5, rng=random.Random(0)) is None
