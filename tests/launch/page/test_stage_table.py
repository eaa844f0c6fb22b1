"""The stage table of a run that lacks some of its stages; test_run_page.py tests the complete one."""

import re
from typing import Any

import pytest

from grm.statistics import wilson
from launch.page.run_summary import Summary
from launch.page.stage_table import stages
from tests.launch.page.sample_run import votes


def text_of(**values: Any) -> str:
    """Returns the text of the section, a blank for each element."""
    section = stages(Summary(values=values))
    assert section is not None
    return " ".join(re.sub(r"<[^>]*>", " ", section.partition("<svg")[0]).split())


@pytest.mark.parametrize(
    "values", [{}, {"accuracy": None, "votes": None}, {"accuracy": {"before": None}, "votes": {}}, {"votes": {"after": {}}}]
)
def test_a_run_without_evaluations_has_no_table(values: dict[str, Any]) -> None:
    assert stages(Summary(values=values)) is None


def test_greedy_judgements_alone() -> None:
    text = text_of(accuracy={"before": 0.5, "after": 0.75}, heldout={"rows": 100})
    assert text == (
        "Stage by stage Accuracy on held-out preferences, with 95 % intervals. policy greedy"
        " base 50 % 40.4 % – 59.6 % online RL 75 % 65.7 % – 82.5 %"
    )


def test_consistency_is_a_column_where_both_orders_were_asked() -> None:
    shares: dict[str, Any] = {"accuracy": {"before": 0.5, "after": 0.75}, "heldout": {"rows": 100}}
    text = text_of(**shares, consistency={"before": None, "after": 0.9})
    assert "name the same single best response. policy greedy same in both orders" in text
    assert "base 50 % 40.4 % – 59.6 % — online RL 75 % 65.7 % – 82.5 % 90 % 82.6 % – 94.5 %" in text


def test_votes_alone() -> None:
    text = text_of(votes={"after": votes(0.6)})
    assert "Votes may cover fewer of them than greedy judgements. policy greedy votes@32 meta-guided votes@32" in text
    assert "online RL — 66 % 63 % – 69 % 70 % 67 % – 73 %" in text
    assert "Votes of the online RL policy Scores of k judgements are summed on 200 held-out preferences, in balanced" in text


def test_votes_without_a_meta_rm() -> None:
    figures = {name: figure for name, figure in votes(0.6).items() if not name.startswith("guided")}
    text = text_of(votes={"after": figures})
    assert (
        "than greedy judgements. No votes are guided by a meta-RM: none was trained in this run. policy greedy votes@32" in text
    )
    assert "meta-guided" not in text
    assert "online RL — 66 % 63 % – 69 % Votes of" in text
    assert "Guided:" not in text


def test_policies_with_different_k_share_the_column_of_the_largest() -> None:
    few = {name: figure for name, figure in votes(0.6).items() if name.endswith(("@1", "@2"))}
    text = text_of(votes={"cold_start": few, "after": votes(0.6)})
    assert "policy greedy votes@32 meta-guided votes@32 cold start — — — online RL — 66 %" in text


def test_the_outcomes_of_the_cold_start_are_counted() -> None:
    text = text_of(accuracy={"after": 0.5}, heldout={"rows": 4}, cold_start={"verdicts": {"kept": 3, "too_easy": 1}})
    assert "intervals. Judgements sampled for the cold start: 3 kept, 1 too easy." in text


def test_the_intervals_are_those_of_wilson() -> None:
    assert wilson(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
