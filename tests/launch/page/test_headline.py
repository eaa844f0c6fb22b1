"""The sentence under the headline of a run: what was measured, and when."""

import pytest

from launch.monitoring.records import Record
from launch.page.headline import headline
from launch.page.run_summary import Summary


def measured(*accuracies: float) -> list[Record]:
    return [
        {"elapsed_s": float(version), "metrics": {"eval/version": version, "eval/accuracy@1": accuracy}}
        for version, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "text"),
    [
        ((0.6,), "Measured before training. It was not measured again."),
        ((0.6, 0.7, 0.922), "Measured before training. The last measurement while it was trained was 92.2\u00a0%."),
    ],
)
def test_a_run_that_ended_early_says_what_was_measured_on_the_way(accuracies: tuple[float, ...], text: str) -> None:
    summary = Summary(values={"accuracy": {"before": 0.6, "after": None}})
    assert text in headline(summary, measured(*accuracies))
