"""What the rollout actors did since the last optimiser step, as metrics."""

import math
import time
from collections.abc import Sequence

from actors.rollout_report import RolloutReport

P95 = 0.95


class RolloutWindow:
    """Collects the reports of all rollout actors between two optimiser steps."""

    def __init__(self) -> None:
        self._reports: list[RolloutReport] = []
        self._since = time.monotonic()

    def add(self, report: RolloutReport) -> None:
        """Count a slice of one worker."""
        self._reports.append(report)

    def take_metrics(self) -> dict[str, float]:
        """Returns the metrics of the window, and begins the next one. A figure that has no value is left out."""
        reports, self._reports = self._reports, []
        since, self._since = self._since, time.monotonic()
        seconds = max(self._since - since, 1e-6)
        worked = sum(report.seconds for report in reports)
        pulls = sum(report.pulls for report in reports)
        latencies = sorted(latency for report in reports for latency in report.latencies_s)
        metrics: dict[str, float] = {
            "throughput/completions_per_s": sum(report.completions for report in reports) / seconds,
            "throughput/tokens_per_s": sum(report.tokens for report in reports) / seconds,
        }
        if worked:
            metrics["idle/rollout_ratio"] = sum(report.idle_s for report in reports) / worked
        if pulls:
            metrics["time/pull_s"] = sum(report.pull_s for report in reports) / pulls
            metrics["time/pause_s"] = sum(report.pause_s for report in reports) / pulls
        if latencies:
            metrics["rollout/request_latency_s"] = sum(latencies) / len(latencies)
            metrics["rollout/request_latency_p95_s"] = quantile(latencies, P95)
        return metrics


def quantile(ordered: Sequence[float], share: float) -> float:
    """Returns the smallest of the values, which are in ascending order, that at least `share` of them do not exceed.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5), quantile([1.0, 2.0, 3.0, 4.0], 0.95), quantile([7.0], 0.95)
    (2.0, 4.0, 7.0)
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
