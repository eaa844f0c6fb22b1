"""What is said and shown of a run that goes on; its accounts and its metrics are written by hand."""

import io
from types import SimpleNamespace
from typing import Any

from launch.driver.resumed import resumed_text, show_earlier
from launch.monitoring.console import ProgressDisplay


def ledger(*, version: int, outstanding: dict[int, int], finished: set[int]) -> Any:
    return SimpleNamespace(version=lambda: version, outstanding=lambda: outstanding, finished=lambda: finished)


def test_it_says_where_it_goes_on_and_what_is_kept() -> None:
    accounts = ledger(version=7, outstanding=dict.fromkeys(range(40, 54), 6), finished=set(range(30, 52)))
    assert resumed_text(accounts, reached=7) == "resumed at step 7, 12 groups kept, 2 groups under way"


def test_steps_without_a_checkpoint_are_taken_again() -> None:
    accounts = ledger(version=4, outstanding={}, finished=set())
    assert resumed_text(accounts, reached=7) == "resumed at step 4, 0 groups kept; steps 5 to 7 had no checkpoint: taken again"
    assert resumed_text(accounts, reached=5).endswith("; step 5 had no checkpoint: taken again")


def test_the_display_begins_with_what_survives_of_earlier_tries() -> None:
    progress = ProgressDisplay(15, 1, io.StringIO())
    rows = [
        {"elapsed_s": x, "metrics": metrics}
        for x, metrics in enumerate(
            [
                {"eval/version": 0, "eval/accuracy@1": 0.5},
                *({"learner/version": version, "reward/mean": 0.1 * version} for version in (1, 2, 3)),
                {"learner/version": 2, "reward/mean": 1.0},  # again, behind a checkpoint of step 1
                {"eval/version": 2, "eval/accuracy@1": 0.8},
            ]
        )
    ]
    show_earlier(progress, rows)
    assert (progress._figures.step, progress._figures.accuracy) == (2, 0.8)
    assert list(progress._rewards) == [0.1, 1.0]


def test_of_a_run_without_metrics_nothing_is_shown() -> None:
    progress = ProgressDisplay(15, 1, io.StringIO())
    show_earlier(progress, [])
    assert progress._figures.step is None
