"""The stage table of a run that lacks some of its stages; the whole one is looked at in test_run_page.py."""

from __future__ import annotations

import re
from typing import Any

import pytest

from launch.page.headline import Summary
from launch.page.stage_table import stages
from tests.launch.page.sample_run import votes


def told(**values: Any) -> str:
    """The text of the section, a blank for each element."""
    found = stages(Summary(values=values))
    assert found is not None
    return " ".join(re.sub(r"<[^>]*>", " ", found.partition("<svg")[0]).split())


@pytest.mark.parametrize(
    "values", [{}, {"accuracy": None, "votes": None}, {"accuracy": {"before": None}, "votes": {}}, {"votes": {"after": {}}}]
)
def test_a_run_that_was_never_judged_has_none(values: dict[str, Any]) -> None:
    assert stages(Summary(values=values)) is None


def test_greedy_judgements_alone() -> None:
    text = told(accuracy={"before": 0.5, "after": 0.75}, heldout={"rows": 100})
    assert text == (
        "Stage by stage Accuracy on held-out preferences, with 95 % intervals. policy greedy"
        " base 50 % 40.4 % – 59.6 % online RL 75 % 65.7 % – 82.5 %"
    )


def test_votes_alone() -> None:
    text = told(votes={"after": votes(0.6)})
    assert "votes may be on fewer of them than greedy judgements. policy greedy votes@32 meta-guided votes@32" in text
    assert "online RL — 66 % 63 % – 69 % 70 % 67 % – 73 %" in text
    assert (
        "Votes of the online RL policy k sampled judgements summed, responses re-shuffled before each on 200 held-out" in text
    )


def test_votes_without_a_meta_rm() -> None:
    figures = {name: figure for name, figure in votes(0.6).items() if not name.startswith("guided")}
    assert "online RL — 66 % 63 % – 69 % — Votes of" in told(votes={"after": figures})


def test_policies_that_voted_to_another_k_share_the_largest_column() -> None:
    few = {name: figure for name, figure in votes(0.6).items() if name.endswith(("@1", "@2"))}
    text = told(votes={"cold_start": few, "after": votes(0.6)})
    assert "policy greedy votes@32 meta-guided votes@32 cold start — — — online RL — 66 %" in text


def test_what_the_cold_start_sampled() -> None:
    text = told(accuracy={"after": 0.5}, heldout={"rows": 4}, cold_start={"verdicts": {"kept": 3, "too_easy": 1}})
    assert "intervals. The cold start sampled: 3 kept, 1 too easy." in text
