"""What a judge favours, by hand."""

from dataclasses import replace

import pytest

from grm.benchmarks import table
from grm.judge_bias import bias, both_orders, share_of
from tests.grm.judged_items import item, sample

SCORED = {"right": (1.25, -0.5), "tied": (0.5, 0.5)}


@pytest.mark.parametrize(
    ("scores", "responses", "share"), [((3, 7, 7), {1}, 0.5), ((3, 7, 7), {0}, 0), ((9, 1, 1), {0, 1}, 1), (None, {0}, 0)]
)
def test_the_best_is_shared_by_the_tied(scores: tuple[float, ...] | None, responses: set[int], share: float) -> None:
    assert share_of(scores, responses) == share


def test_a_judge_that_picks_the_longest_and_the_first() -> None:
    """Own order: 5 and 9 characters. The second judgement shows them the other way round."""
    samples = [sample((2, 8)), sample((6, 6), (1, 0))]
    values = bias(samples, (5, 9), 0)
    assert values == {"picks_longest": (1 + 0.5) / 2, "picks_first": (0 + 0.5) / 2, "greedy_shortest": (0 + 0.5) / 2}
    assert bias(samples, (5, 9), 1)["greedy_longest"] == (1 + 0.5) / 2


def test_what_does_not_parse_favours_nothing_and_is_wrong() -> None:
    assert bias([sample(None), sample((2, 8), (1, 0))], (5, 9), 1) == {
        "picks_longest": 1.0,
        "picks_first": 1.0,
        "greedy_longest": 0.5,
    }
    assert bias([sample(None)], (7, 7), 0) == {}, "of two as long as each other, none is the longest"


@pytest.mark.parametrize(
    ("first", "second", "right"),
    [
        ((9, 2), (9, 2), 1),
        ((9, 2), (5, 5), 1),
        ((9, 2), None, 1),
        ((9, 2), (2, 9), 0),
        ((5, 5), (5, 5), 0),
        ((2, 9), None, 0),
        (None, None, 0),
    ],
)
def test_judge_bench_counts_right_more_often_than_wrong(
    first: tuple[float, ...] | None, second: tuple[float, ...] | None, right: float
) -> None:
    assert both_orders([sample(first), sample(second, (1, 0))], 0) == right


def test_what_is_scored_alone_has_no_place_and_the_same_verdict_in_both_orders() -> None:
    """Two pairs by a scalar reward model: the first right, the second tied. No figure says where a response was shown."""
    items = [replace(item(name, scores), greedy=replace(sample(scores), alone=True)) for name, scores in SCORED.items()]
    figures = {name: figure.value for name, figure in table(items, ks=(), resamples=10)[-1].figures.items()}
    assert figures == {
        "chance": 0.5,
        "longest": 0.0,
        "shortest": 1.0,
        "greedy": 0.75,
        "greedy_ties_lost": 0.5,
        "both_orders": 0.5,
        "tie_rate": 0.5,
        "picks_longest": 0.25,
        "greedy_shortest": 0.75,
    }
