"""Where a run stands: its totals so far, on disk at every optimiser step, so that a resumed run goes on counting."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from actors.rollout_report import RolloutReport
from buffer import files
from buffer.json_text import JsonError, read_object
from configs.load import ConfigError
from learner.grpo import GRPOReport
from learner.meta_rm import MetaRMReport


@dataclass(slots=True)
class RunTotals:
    """The totals of the run so far, for the summary."""

    preset: str = ""
    """Name of the run's preset, for people; "" before it is known."""
    version: int = 0
    """Policy version of the last optimiser step."""
    tokens: int = 0
    """Tokens sampled, those of groups that were sampled again among them."""
    staleness_max: int = 0
    """Largest staleness of a group that was trained, in versions; of steps that a crash undid, too: they kept the bound."""
    learner_idle_s: float = 0.0
    """Seconds that the learner waited for groups."""
    learner_s: float = 0.0
    """Seconds of all its steps."""
    rollout_idle_s: float = 0.0
    """Seconds that rollout actors had nothing to decode, summed over the actors."""
    rollout_s: float = 0.0
    """Seconds of all their slices."""
    meta_completions: list[int] = field(default_factory=list)
    """Parsed completions that each step of the meta-RM was trained on, in order; 0 for one that was skipped."""
    lost_hand_offs: int = 0
    """Finished groups that another worker had handed on first."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Groups by outcome, as of the last step: a stopped run may have no server to ask."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Replacements after a death, by group."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration by stage, of all tries; of a try that was killed, up to its last optimiser step or the end of a stage."""

    def add_rollout(self, report: RolloutReport) -> None:
        """Count a slice of a rollout actor."""
        self.tokens += report.tokens
        self.rollout_idle_s += report.idle_s
        self.rollout_s += report.seconds
        self.lost_hand_offs += report.lost

    def add_meta_rm(self, report: MetaRMReport) -> None:
        """Count a step of the meta-RM. One that is taken again, behind its checkpoint, takes the place of those from it on."""
        before = report.version - 1
        del self.meta_completions[before:]
        self.meta_completions += [0] * (before - len(self.meta_completions)) + [report.completions]

    @property
    def meta_examples(self) -> int:
        """Parsed completions that the meta-RM was trained on."""
        return sum(self.meta_completions)

    def add_grpo(self, report: GRPOReport) -> None:
        """Count a step of the policy."""
        metrics = report.metrics
        self.version = report.version
        self.staleness_max = max(self.staleness_max, int(metrics["staleness/max"]))
        self.learner_idle_s += metrics["time/wait_for_experience_s"]
        self.learner_s += metrics["time/step_s"]


class RunState:
    """The totals of a run and the file that keeps them."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one. ConfigError when it is not what was written."""
        self._path = path
        self._counted: dict[str, float] = {}  # by stage that goes on: up to when its time is counted, by the monotonic clock
        try:
            self.totals = RunTotals(**read_object(path)) if path.exists() else RunTotals()
        except (JsonError, TypeError) as error:
            raise ConfigError(f"{error}: {path} is not as the run wrote it; restore it, or start another run") from None

    def begin(self, stage: str, since: float) -> None:
        """Count to a stage all time from `since` on, by the monotonic clock."""
        self._counted[stage] = since

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time in the block to a stage, and save if it ends well."""
        self.begin(stage, time.monotonic())
        try:
            yield
        finally:
            self._count_time()
            del self._counted[stage]
        self.save()

    def add_time(self, stage: str, seconds: float) -> None:
        """Count time to a stage."""
        self.totals.seconds[stage] = self.totals.seconds.get(stage, 0.0) + seconds

    def save(self) -> None:
        """Write the whole file or leave the one before: a kill in between leaves no half of one."""
        self._count_time()
        files.write(self._path, json.dumps(asdict(self.totals)))

    def _count_time(self) -> None:
        now = time.monotonic()
        for stage, counted in self._counted.items():
            self.add_time(stage, now - counted)
            self._counted[stage] = now
