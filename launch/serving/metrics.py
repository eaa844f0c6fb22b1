"""What Prometheus is told: counts of all processes of the server, of each of its nodes by name.

Each process counts into files of a folder on its node (PROMETHEUS_MULTIPROC_DIR, which is set before any of them starts). Every
TELL_S a node's counts go to the store, and whichever HTTP worker is asked adds its own node's, as they are now:

    /metrics = own node, now + each other node, TELL_S ago at most      label `node`: what a node counted goes with it
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
NODE = os.uname().nodename
TELL_S = 5.0
PREFIX = "spct_serving_"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

if FOLDER in os.environ:  # on a node where nobody else has made it
    Path(os.environ[FOLDER]).mkdir(parents=True, exist_ok=True, mode=0o700)
REQUESTS = Counter(f"{PREFIX}requests", "Requests that were answered", ["route", "status"])
SECONDS = Histogram(f"{PREFIX}request_seconds", "From the request to its answer", ["route"], buckets=_SECONDS)
INSIDE = Gauge(f"{PREFIX}requests_inside", "Requests that wait for their answer", multiprocess_mode="livesum")
VERDICTS = Counter(f"{PREFIX}verdicts", "Cohorts that were judged, by what came of it", ["outcome"])
VOTES = Counter(f"{PREFIX}votes", "Judgements that were asked for, by what came of them", ["outcome"])
TOKENS = Counter(f"{PREFIX}tokens", "Tokens of judgements", ["kind"])
JUDGING = Histogram(f"{PREFIX}judging_seconds", "From the lease of a cohort to its verdict", buckets=_SECONDS)
JUDGED_AT_A_TIME = Gauge(f"{PREFIX}cohorts_leased", "Cohorts under judgement", multiprocess_mode="livesum")
OPEN_COHORTS = f"{PREFIX}cohorts_open"
OLDEST = f"{PREFIX}cohort_oldest_seconds"


class _Cohorts:
    """Cohorts without a verdict, as the store has them."""

    def __init__(self, count: int, oldest_s: float) -> None:
        self._count, self._oldest_s = count, oldest_s

    def collect(self) -> Iterator[Metric]:
        for name, text, value in (
            (OPEN_COHORTS, "Cohorts without a verdict", float(self._count)),
            (OLDEST, "Age of the oldest of them, in seconds", self._oldest_s),
        ):
            metric = Metric(name, text, "gauge")
            metric.add_sample(name, {}, value)
            yield metric


class _Ours:
    """The metrics of this server alone: Ray and vLLM count into the same folder."""

    def __init__(self, folder: str) -> None:
        self._all = MultiProcessCollector(None, path=folder)

    def collect(self) -> Iterator[Metric]:
        return (metric for metric in self._all.collect() if metric.name.startswith(PREFIX))


class _Nodes:
    """The metrics of several nodes, with a label for each."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for node, text in sorted(self._texts.items()):
            for family in text_string_to_metric_families(text):
                metric = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, "node": node}, sample.value)
        return iter(found.values())


def own_text() -> str:
    """Returns the metrics of this node in Prometheus' text format."""
    registry = CollectorRegistry()
    folder = os.environ.get(FOLDER)
    if folder:
        forget_dead(Path(folder))
        registry.register(_Ours(folder))  # type: ignore[arg-type]
    else:  # one process: a test
        for metric in (REQUESTS, SECONDS, INSIDE, VERDICTS, VOTES, TOKENS, JUDGING, JUDGED_AT_A_TIME):
            registry.register(metric)
    return generate_latest(registry).decode()


def exposition(*, open_cohorts: int, oldest_s: float, others: Mapping[str, str]) -> bytes:
    """Returns the metrics of all nodes in Prometheus' text format.

    Args:
        open_cohorts: Cohorts without a verdict.
        oldest_s: Age of the oldest of them, in seconds.
        others: The text of each other node, by its name.
    """
    registry = CollectorRegistry()
    registry.register(_Nodes({**others, NODE: own_text()}))  # type: ignore[arg-type]
    registry.register(_Cohorts(open_cohorts, oldest_s))  # type: ignore[arg-type]
    return generate_latest(registry)


def forget_dead(folder: Path) -> None:
    """Removes what processes that ended said of themselves; what they counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
