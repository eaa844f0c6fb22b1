"""A run that goes on: what an earlier try has reached, in words and on the display."""

from collections.abc import Sequence

from buffer.ledger import Ledger
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.records import Record, values


def resumed_text(ledger: Ledger, *, reached: int) -> str:
    """Returns where a run goes on, and what of an earlier try is kept.

    Args:
        ledger: The run's accounts, once the learner has recovered.
        reached: Optimiser steps that the driver had seen; those beyond the learner's checkpoint are taken again.
    """
    version, outstanding = ledger.version(), ledger.outstanding()
    kept = len(ledger.finished() & outstanding.keys())
    text = f"resumed at step {version}, {_groups(kept)} kept"
    if under_way := len(outstanding) - kept:
        text += f", {_groups(under_way)} under way"
    if reached > version:
        again = f"step {reached}" if reached == version + 1 else f"steps {version + 1} to {reached}"
        text += f"; {again} had no checkpoint: taken again"
    return text


def show_earlier(progress: ProgressDisplay, records: Sequence[Record]) -> None:
    """Show what the metrics of earlier tries tell: the steps, their rewards, and the last accuracy."""
    versions, accuracies = values(records, "learner/version"), values(records, "eval/accuracy@1")
    if versions or accuracies:
        progress.resume(
            int(versions[-1]) if versions else 0,
            rewards=values(records, "reward/mean"),
            accuracy=accuracies[-1] if accuracies else None,
        )


def _groups(count: int) -> str:
    return f"{count} group{'s' * (count != 1)}"
