"""At η = 0 a run that is cut off three times has the curves and the totals of one that was not. Of the run there are here the
accounts, what the learner counts, the run state, the metrics and the summary, on a real server; a step trains nothing. With
models and processes: test_resume.py.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from buffer.server import EmbeddedServer
from buffer.streams import Address
from launch.driver.run_state import RunState
from launch.driver.summary import RunResults, summary
from launch.monitoring import records
from launch.monitoring.tracker import Tracker
from learner.grpo import GRPOReport
from learner.grpo_intake import Intake
from tests.learner.run_by_hand import SAMPLES, Run, config, experience

STEPS, SAVE_EVERY = 12, 5
CONFIG = config(Path("unused"), grpo={"max_staleness": 0, "steps": STEPS, "batch_groups": 2})
TIMES = {"time/wait_for_experience_s": 0.1, "time/step_s": 0.2, "staleness/max": 0.0, "staleness/mean": 0.0}
_numbers = count()


class Cut(Exception):
    """The machine's plug is pulled."""


@dataclass
class Saved:
    """The newest checkpoint."""

    version: int = 0
    entries: tuple[str, ...] = ()


class Try:
    """One try of a run: what is in memory is lost with it."""

    def __init__(self, run: Run, saved: Saved, cut: Callable[[str, int], None]) -> None:
        """cut: called at each place where it may be cut off, with the version that it is at."""
        self._run, self._saved, self._cut = run, saved, cut
        self._intake = Intake(CONFIG, run.address, 250)
        _, self._version = self._intake.recover(saved.version, saved.entries)
        self.state = RunState(run.folder / "run_state.json")
        self._tracker = Tracker(run.folder, "mine", {}, "spct", "disabled")

    def work(self) -> None:
        """To the last step."""
        while self._version < STEPS:
            for group in self._run.issue(CONFIG.credit, limit=CONFIG.credit):  # every third is filtered, another is issued
                rewards = (-1.0,) * SAMPLES if group % 3 == 1 else ()
                self._run.deliver(experience(group, self._version, rewards=rewards))
            self._cut("issued", self._version)
            if batch := self._intake.wait(self._version, 0.0):
                self._step(batch)

    def _step(self, batch: Any) -> None:
        self._version += 1
        self._intake.trained(self._version, batch)
        self._cut("trained", self._version)
        metrics = self._intake.metrics(self._version) | TIMES | {"loss/policy": float(sum(each.group.group for each in batch))}
        self.state.totals.add_grpo(GRPOReport(version=self._version, groups=(), loss=0.0, metrics=metrics))
        self.state.totals.outcomes = self._run.ledger.outcomes()
        self.state.save()
        self._tracker.log({"learner/version": self._version, **metrics})
        self._cut("logged", self._version)
        if self._version % SAVE_EVERY == 0:
            self._saved.version, self._saved.entries = self._version, self._intake.unacknowledged
            self._cut("saved", self._version)
            self._intake.saved(self._version, self._saved.entries)

    def close(self) -> None:
        self._intake.close()
        self._tracker.finish({})


@pytest.fixture
def make_run(server: EmbeddedServer, tmp_path: Path) -> Iterator[Callable[[], Run]]:
    made: list[Run] = []

    def make() -> Run:
        name = f"curves-{os.getpid()}-{next(_numbers)}"
        (tmp_path / name).mkdir()
        made.append(Run(Address(server.url, name), tmp_path / name))
        return made[-1]

    yield make
    for run in made:
        run.close()


def outcome(run: Run, cuts: list[tuple[str, int]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The curves and the summary of a run that is cut off at these places, and resumed."""
    saved, left = Saved(), list(cuts)

    def cut(place: str, version: int) -> None:
        if left and left[0] == (place, version):
            left.pop(0)
            raise Cut

    while True:
        one = Try(run, saved, cut)
        try:
            one.work()
        except Cut:
            continue
        finally:
            one.close()
        break
    assert left == [], "it was cut off as often as it should be"
    known = records.read(run.folder / "metrics.jsonl")
    names = {name for record in known for name in record["metrics"]}
    curves = {name: records.points(known, name)[0] for name in names}
    results = RunResults(judged=[], training=one.state.totals)
    whole = summary(CONFIG, results, known, run_id="mine", finished="completed")
    return curves, {name: value for name, value in whole.items() if name not in ("seconds", "idle")}


@pytest.mark.parametrize(
    "cuts",
    [
        [("logged", 2), ("trained", 7), ("issued", 11)],
        [("issued", 0), ("saved", 5), ("logged", 9)],
        [("trained", 4), ("trained", 5), ("trained", 6)],
        [("issued", 4), ("issued", 4), ("issued", 4)],
    ],
)
def test_a_run_that_is_cut_three_times_has_the_curves_and_totals_of_one_that_is_not(
    cuts: list[tuple[str, int]], make_run: Callable[[], Run]
) -> None:
    curves, whole = outcome(make_run(), [])
    assert [version for version, _ in curves["reward/mean"]] == list(range(1, STEPS + 1))
    assert whole["groups"]["filtered"] > 0, "some of what arrives is never seen again"
    assert outcome(make_run(), cuts) == (curves, whole)
