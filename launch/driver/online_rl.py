"""The online RL stage: the driver issues prompts on credit and listens to the parts.

    issue while outstanding < (eta + 1) * B ─▶ prompts ─▶ … ─▶ the learner's step ─▶ credit comes back

A part that dies is replaced and the loop goes on; a learner goes back to its checkpoint, so versions may come twice.
At eta = 0 nothing is issued while an evaluation runs, so a run with one worker is reproducible to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from actors.reward import RewardReport
from actors.rollout import RolloutReport
from buffer.ledger import Ledger
from buffer.streams import lengths
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup
from launch.cluster.rollout_pool import RolloutPool
from launch.cluster.stage_actors import TrainingActors
from launch.cluster.supervision import SLICE_S, SupervisedGroup, all_ready, one_line, poll
from launch.driver.issue import issue
from launch.driver.run_state import RunState
from launch.judging.heldout import Evaluating, Evaluation
from launch.monitoring import diagnosis
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.tracker import Tracker
from launch.setup.prompt_source import Draft, PromptSource
from learner.grpo import GRPOReport
from learner.meta_rm import MetaRMReport


class Training:
    """Runs the loop until `grpo.steps` versions are published."""

    def __init__(
        self,
        config: Config,
        *,
        actors: TrainingActors,
        prompts: PromptSource,
        heldout: Sequence[Draft],
        tracker: Tracker,
        progress: ProgressDisplay,
        run_state: RunState,
    ) -> None:
        """run_state: where the run stands, kept up to date; of a resumed run, where it stood."""
        self._config, self._actors, self._prompts, self._heldout = config, actors, prompts, heldout
        self._tracker, self._progress = tracker, progress
        self._ledger = Ledger(actors.redis, actors.address.run_id)
        self.run_state = run_state
        run_state.totals.version = self._ledger.version()
        self._before = dict(run_state.totals.restarts)
        self._recent: list[RolloutReport] = []
        self._recent_since = self._stepped = time.monotonic()
        self._evaluating: Evaluating | None = None
        self._grades: Any = None
        self._pool = RolloutPool(actors, config, on_report=self._on_rollout_report, note=progress.note)
        self._steady = [self._part(actors.reward_group, "work", self._on_reward_report)]
        hearers: list[Callable[[Any], None]] = [self._on_grpo_report, self._on_meta_rm_report]
        self._steady += [
            self._part(group, "step", on_report) for group, on_report in zip(actors.learners, hearers, strict=False)
        ]

    def _part(self, group: ActorGroup, method: str, on_report: Callable[[Any], None]) -> SupervisedGroup:
        return SupervisedGroup(group, method, on_report, restarts=self._config.cluster.restarts, note=self._progress.note)

    def run(self) -> None:
        """TimeoutError names the part that holds the others up when no optimiser step came within `waits.progress_s`."""
        with self._actors.heartbeat.activity("drive the training"):
            self._drive()
        self._finish_evaluation()
        self._save_meta_rm()
        self.run_state.totals.outcomes = self._ledger.outcomes()

    def _drive(self) -> None:
        for part in [*self._steady, *self._pool.parts]:
            part.submit()
        while self.run_state.totals.version < self._config.grpo.steps:
            if self._evaluating is None:
                issue(self._ledger, self._config, self._prompts.take)
            self._pool.reconcile()
            self._poll()
            self._actors.watch()
            self._advance_evaluation()
            self._check_progress()

    def _save_meta_rm(self) -> None:
        """The policy's last step wrote its own checkpoint; the meta-RM, which has no last step, writes one now."""
        if self._actors.has_meta_rm:
            what = "the meta-RM learner to save (waits.progress_s)"
            self._actors.persist(
                lambda: self._actors.answers(
                    [rank.save.remote() for rank in self._actors.learners[-1].actors],
                    limit_s=self._config.waits.progress_s,
                    what=what,
                )
            )

    # ---- listening -----------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        for part in poll([*self._steady, *self._pool.parts]):
            if part in self._pool.parts:
                self._pool.submit(part)
            elif part.method != "step" or self.run_state.totals.version < self._config.grpo.steps:
                part.submit()

    def _check_progress(self) -> None:
        limit = self._config.waits.progress_s
        if time.monotonic() - self._stepped < limit:
            return
        found = diagnosis.diagnose_run(self._actors.redis, self._actors.address.run_id, self._config)
        report = diagnosis.describe(found)
        self._tracker.alert(f"no optimiser step for {limit:.0f} s", report)
        raise TimeoutError(
            f"the driver waited {limit:.0f} s for optimiser step {self.run_state.totals.version + 1}"
            f" (waits.progress_s)\n{report}"
        )

    def _on_rollout_report(self, report: RolloutReport) -> None:
        self._recent.append(report)
        self.run_state.totals.add_rollout(report)

    def _on_reward_report(self, report: RewardReport) -> None:
        """Rewards reach the log by way of the learner, which sees every group; here only the heartbeat counts."""

    def _on_meta_rm_report(self, report: MetaRMReport) -> None:
        self.run_state.totals.add_meta_rm(report)
        self._tracker.log({"meta_rm/step": report.version, **report.metrics})

    def _on_grpo_report(self, report: GRPOReport) -> None:
        f, metrics = self.run_state.totals, report.metrics
        self._stepped = time.monotonic()
        f.add_grpo(report)
        f.outcomes = self._ledger.outcomes()
        f.restarts = self._restarts()
        self.run_state.save()
        rolled, queues = self._rolled(), self._queues()
        # what the meta-RM passed over is its own metric
        outcomes = {f"groups/{outcome}": count for outcome, count in f.outcomes.items() if outcome != "skipped"}
        self._tracker.log(
            {"learner/version": report.version, **metrics, **rolled, **outcomes}
            | {f"queue/{name}": count for name, count in queues.items()}
        )
        self._progress.update(
            step=report.version,
            reward=metrics.get("reward/mean"),
            parse_failure_rate=metrics.get("parse/failure_rate"),
            staleness_max=f.staleness_max,
            tokens_per_s=rolled["throughput/tokens_per_s"],
            workers=len(self._actors.rollouts),
            queues=queues,
        )
        if "idle/rollout_ratio" in rolled:
            self._pool.autoscale(metrics["idle/learner_ratio"], rolled["idle/rollout_ratio"])
        self._begin_evaluation()

    def _restarts(self) -> dict[str, int]:
        """Replacements since the run began, by part."""
        now = {part.name: part.replaced for part in self._steady} | {"rollout actors": self._pool.replaced}
        return {name: self._before.get(name, 0) + count for name, count in now.items()}

    def _rolled(self) -> dict[str, float]:
        """What the rollout actors did since the last step."""
        recent, self._recent = self._recent, []
        since, self._recent_since = self._recent_since, time.monotonic()
        seconds = max(self._recent_since - since, 1e-6)
        worked = sum(r.seconds for r in recent)
        pulls = sum(r.pulls for r in recent)
        figures: dict[str, float] = {
            "throughput/completions_per_s": sum(r.completions for r in recent) / seconds,
            "throughput/tokens_per_s": sum(r.tokens for r in recent) / seconds,
            "rollout/workers": len(self._actors.rollouts),
            "actors/restarts": sum(self.run_state.totals.restarts.values()),
        }
        if worked:
            figures["idle/rollout_ratio"] = sum(r.idle_s for r in recent) / worked
        if pulls:
            figures["time/pull_s"] = sum(r.pull_s for r in recent) / pulls
            figures["time/pause_s"] = sum(r.pause_s for r in recent) / pulls
        return figures

    def _queues(self) -> dict[str, int]:
        return lengths(self._actors.redis, self._actors.address.run_id)

    # ---- evaluation while training -------------------------------------------------------------------------------

    def _begin_evaluation(self) -> None:
        """Every `eval.every` versions, unless one is still under way or the run's last evaluation is next. No prompt
        is issued meanwhile, so at eta = 0 the engine has nothing else to do and the run stays reproducible."""
        every, version = self._config.eval.every, self.run_state.totals.version
        if every and version % every == 0 and version < self._config.grpo.steps and self._evaluating is None:
            if not self._actors.rollouts:
                self._progress.note("an evaluation is left out, as the rollout actors are being replaced")
                return
            drafts = self._heldout[: self._config.eval.during_limit]
            self._evaluating = Evaluating(self._actors, self._config, drafts, when="during", version=version)

    def _advance_evaluation(self) -> None:
        """One look at it. When a worker died under it, it is left out: the next one is `eval.every` versions away."""
        if self._evaluating is None:
            return
        try:
            if self._grades is None:
                if all_ready(self._evaluating.refs):
                    self._grades = self._evaluating.grade()
            elif all_ready([self._grades]):
                result = self._evaluating.result(ray.get(self._grades))
                self._evaluating = self._grades = None
                self._evaluated(result)
        except ray.exceptions.RayActorError as error:
            self._evaluating = self._grades = None
            self._progress.note(f"an evaluation is left out, as one of those who judged died ({one_line(error)})")

    def _evaluated(self, result: Evaluation) -> None:
        self._tracker.log(result.metrics())
        self._tracker.samples(result.samples(self._config.tracking.samples))
        self._progress.update(accuracy=result.accuracy)

    def _finish_evaluation(self) -> None:
        deadline = time.monotonic() + self._config.waits.judge_s
        while self._evaluating is not None:
            if time.monotonic() > deadline:
                limit = self._config.waits.judge_s
                raise TimeoutError(f"the driver waited {limit:.0f} s for an evaluation to end (waits.judge_s)")
            ray.wait([self._grades] if self._grades is not None else self._evaluating.refs, timeout=SLICE_S)
            self._advance_evaluation()
