"""The scaling curve: which figures become points, and the text of the card."""

import math
import re
from typing import Any

import pytest

from launch.page.charts import HEIGHT, LEFT, RIGHT, WIDTH
from launch.page.markup import Markup
from launch.page.scaling import ASIDE, largest_k, scaling_card, value


def figure(middle: Any, **more: Any) -> dict[str, Any]:
    return {"value": middle, "low": 0.1, "high": 0.9, "rows": 200} | more


FIGURES = {
    "greedy": figure(0.6),
    "vote@8": figure(0.7),
    "vote@1": figure(0.5),
    "vote@32": figure(0.75),
    "guided@1": figure(0.5),
    "guided@8": figure(0.8),
    "guided@32": figure(0.85),
    "vote@8_ties_lost": figure(0.1),
    "auc_vote@8": figure(0.2),
    "vote@64": figure(None),
    "vote@0": figure(0.3),
    "vote@x": figure(0.3),
    "vote@2": "broken",
}


def card(figures: dict[str, Any]) -> str:
    markup = scaling_card(figures, title="Votes <of> it", what="Sums & more")
    assert isinstance(markup, Markup)
    return markup


def lines(source: str) -> dict[str, list[tuple[float, float]]]:
    """Returns {metric: vertices of its line}."""
    polylines = re.findall(r'<polyline class="line ([a-c])" points="([^"]*)" data-metric="([^"]*)"', source)
    return {metric: [tuple(map(float, pair.split(","))) for pair in points.split()] for _, points, metric in polylines}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"a": figure(0.5)}, 0.5),
        ({"a": figure(1)}, 1.0),
        ({"a": figure(None)}, None),
        ({"a": figure(True)}, None),
        ({"a": figure(math.nan)}, None),
        ({"a": figure("0.5")}, None),
        ({"a": 0.5}, None),
        ({"a": None}, None),
        ({}, None),
    ],
)
def test_a_number_of_a_figure(figures: dict[str, Any], expected: float | None) -> None:
    assert value(figures, "a") == expected


def test_other_numbers_of_a_figure() -> None:
    assert [value(FIGURES, "greedy", field) for field in ("low", "high", "rows", "missing")] == [0.1, 0.9, 200.0, None]


def test_k_is_compared_as_a_number() -> None:
    assert (largest_k(FIGURES, "vote@"), largest_k(FIGURES, "guided@"), largest_k(FIGURES, "majority@")) == (32, 32, None)
    assert largest_k({}, "vote@") is None
    assert largest_k({"vote@2": figure(0.5), "vote@16": figure(0.5), "vote@8": figure(0.5)}, "vote@") == 16


def test_a_line_for_each_kind_over_the_logarithm_of_k() -> None:
    drawn = lines(card(FIGURES))
    assert list(drawn) == ["vote@k", "guided@k"]
    for line in drawn.values():
        assert [x for x, _ in line] == pytest.approx([LEFT + d / 5 * (WIDTH - LEFT - RIGHT) for d in (0, 3, 5)], abs=0.1)
        assert all(0 <= y <= HEIGHT for _, y in line)
        assert [y for _, y in line] == sorted((y for _, y in line), reverse=True), "a higher accuracy is drawn higher"
    assert drawn["vote@k"][0] == drawn["guided@k"][0]


def test_the_card_names_what_is_drawn() -> None:
    source = card(FIGURES)
    assert "<h3>Votes &lt;of&gt; it</h3>" in source
    assert "Sums &amp; more" in source
    keys = re.sub(r"<[^>]*>", "", source.partition('class="keys"')[2].partition("<svg")[0]).removeprefix(">")
    assert keys == "votes 75\u00a0%guided by the meta-RM 85\u00a0%greedy 60\u00a0%"
    assert 'data-level="greedy"' in source
    titles = re.findall(r"<title>([^<]*)</title>", source)
    assert titles[0] == "votes 1\nvotes 50\u00a0%\nguided by the meta-RM 50\u00a0%"
    assert titles[-1] == "votes 32\nvotes 75\u00a0%\nguided by the meta-RM 85\u00a0%"


def test_majority_is_a_third_line_and_greedy_may_be_unknown() -> None:
    source = card({"majority@4": figure(0.5), "vote@4": figure(0.5)})
    assert {metric: len(line) for metric, line in lines(source).items()} == {"vote@k": 1, "majority@k": 1}
    assert "data-level" not in source


@pytest.mark.parametrize("figures", [{}, {"greedy": figure(0.6)}, {"vote@8": figure(None)}, {"auc_vote@8": figure(0.5)}])
def test_without_votes_there_is_no_card(figures: dict[str, Any]) -> None:
    assert scaling_card(figures, title="t", what="w") is None


def test_every_k_is_labelled_the_axis_is_whole_and_all_lines_have_intervals() -> None:
    known = {f"{kind}@{k}": figure(0.7, low=0.5, high=0.8) for k in (1, 3, 32) for kind in ("vote", "guided")}
    source = card(known | {"majority@3": figure(0.6)})
    assert re.findall(r'<text[^>]*text-anchor="(?:start|middle|end)">(\d+)</text>', source) == ["1", "3", "32"]
    assert {"0\u00a0%", "100\u00a0%"} <= set(re.findall(r">(\d+\u00a0%)</text>", source))
    votes, guided = (
        [tuple(map(float, bar)) for bar in re.findall(rf'd="M([\d.]+) ([\d.]+)V([\d.]+)" data-interval="{kind}@k"', source)]
        for kind in ("vote", "guided")
    )
    assert len(votes) == len(guided) == 3, "where both ends are known"
    assert all(top < bottom for _, top, bottom in (*votes, *guided))
    moved = [other[0] - bar[0] for bar, other in zip(votes, guided, strict=True)]
    assert moved == pytest.approx([ASIDE * (WIDTH - LEFT - RIGHT)] * 3, abs=0.11), "beside each other"
    assert "From left to right: 1, 3, 32 votes; bars are 95 % intervals, side by side." in source
