"""The online RL stage: the driver issues prompts on credit and listens to the parts.

    issue while outstanding < (eta + 1) * B ─▶ prompts ─▶ … ─▶ the learner's step ─▶ credit comes back

At eta = 0 nothing is issued while an evaluation runs, so a run with one worker is reproducible to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from actors.reward import RewardReport
from actors.rollout import RolloutReport
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import Prompt, encode
from buffer.streams import lengths
from configs.schema import Config
from launch.crew import Crew
from launch.evaluation import Evaluating, Evaluation
from launch.issuing import Draft, PromptSource
from launch.parts import SLICE_S, Part, ages, all_ready, listen
from launch.progress import Progress
from launch.tracking import Tracker
from learner.grpo import GRPOReport
from learner.meta_rm import MetaRMReport


@dataclass(slots=True)
class Figures:
    """What the run has seen so far, for the summary."""

    version: int = 0
    tokens: int = 0
    first_reward: float | None = None
    last_reward: float | None = None
    staleness_max: int = 0
    staleness_sum: float = 0.0
    learner_idle_s: float = 0.0
    learner_s: float = 0.0
    rollout_idle_s: float = 0.0
    rollout_s: float = 0.0
    meta_auc: list[float] = field(default_factory=list)
    meta_accuracy: list[float] = field(default_factory=list)
    meta_examples: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    fates: dict[str, int] = field(default_factory=dict)  # as of the last step: a stopped run may have no server to ask


class Training:
    """Runs the loop until `grpo.steps` versions are published."""

    def __init__(
        self,
        config: Config,
        *,
        crew: Crew,
        prompts: PromptSource,
        heldout: Sequence[Draft],
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self._config, self._crew, self._prompts, self._heldout = config, crew, prompts, heldout
        self._tracker, self._progress = tracker, progress
        self._ledger = Ledger(crew.redis, crew.address.run_id)
        self.figures = Figures()
        self._recent: list[RolloutReport] = []
        self._recent_since = self._stepped = time.monotonic()
        self._evaluating: Evaluating | None = None
        self._grades: Any = None
        self._parts = [Part("the reward actor", [crew.reward], "work", self._heard_reward)]
        self._parts += [
            Part(f"rollout actor {i}", [actor], "work", self._heard_rollout) for i, actor in enumerate(crew.rollouts)
        ]
        self._parts.append(Part("the GRPO learner", crew.grpo, "step", self._heard_grpo))
        if crew.meta_rm:
            self._parts.append(Part("the meta-RM learner", crew.meta_rm, "step", self._heard_meta_rm))

    def run(self) -> Figures:
        """TimeoutError names the slowest part when no optimiser step came within `waits.progress_s`."""
        for part in self._parts:
            part.submit()
        while self.figures.version < self._config.grpo.steps:
            if self._evaluating is None:
                self._issue()
            self._listen()
            self._advance_evaluation()
            self._check_progress()
        self._finish_evaluation()
        self._save_meta_rm()
        self.figures.fates = self._ledger.fates()
        return self.figures

    def _save_meta_rm(self) -> None:
        """The policy's last step wrote its own checkpoint; the meta-RM, which has no last step, writes one now."""
        limit = self._config.waits.progress_s
        try:
            ray.get([rank.save.remote() for rank in self._crew.meta_rm], timeout=limit)
        except ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(
                f"the driver waited {limit:.0f} s for the meta-RM learner to save (waits.progress_s)"
            ) from error

    # ---- credit --------------------------------------------------------------------------------------------------

    def _issue(self) -> None:
        """Offer as many prompts as there is credit for; the ledger's script has the last word (I2) and moves the data
        cursor with them (I7). All in one script: a worker that looks sees all of them."""
        credit = self._config.credit - len(self._ledger.outstanding())
        if credit > 0:
            cursor, version = self._ledger.cursor(), self._ledger.version()
            offers = [self._offer(draft, after, version) for draft, after in self._prompts.take(cursor, credit)]
            self._ledger.issue(offers, version=version, limit=self._config.credit)

    def _offer(self, draft: Draft, after: Cursor, version: int) -> Offer:
        prompt = Prompt(
            group=after.group - 1,
            preference=draft.preference,
            permutation=draft.permutation,
            token_ids=draft.token_ids,
            issued_at=version,
            samples=self._config.rollout.samples,
        )
        return Offer(group=prompt.group, payload=encode(prompt), after=after)

    # ---- listening -----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for part in listen(self._parts):
            if part.method != "step" or self.figures.version < self._config.grpo.steps:
                part.submit()

    def _check_progress(self) -> None:
        limit = self._config.waits.progress_s
        if time.monotonic() - self._stepped < limit:
            return
        queues = ", ".join(f"{name} {count}" for name, count in self._queues().items())
        raise TimeoutError(
            f"the driver waited {limit:.0f} s for optimiser step {self.figures.version + 1} (waits.progress_s)."
            f" Last heard of: {ages(self._parts)}. Waiting entries: {queues}."
            f" Groups: {self._ledger.fates()}, outstanding {len(self._ledger.outstanding())}"
        )

    def _heard_rollout(self, report: RolloutReport) -> None:
        self._recent.append(report)
        f = self.figures
        f.tokens += report.tokens
        f.rollout_idle_s += report.idle_s
        f.rollout_s += report.seconds

    def _heard_reward(self, report: RewardReport) -> None:
        """Rewards reach the log by way of the learner, which sees every group; here only the pulse counts."""

    def _heard_meta_rm(self, report: MetaRMReport) -> None:
        f = self.figures
        f.meta_examples += report.completions
        f.meta_accuracy.append(report.metrics["meta_rm/accuracy"])
        if "meta_rm/auc" in report.metrics:  # a batch of one class has none
            f.meta_auc.append(report.metrics["meta_rm/auc"])
        self._tracker.log({"meta_rm/step": report.version, **report.metrics})

    def _heard_grpo(self, report: GRPOReport) -> None:
        f, metrics = self.figures, report.metrics
        self._stepped = time.monotonic()
        f.version = report.version
        f.staleness_max = max(f.staleness_max, int(metrics["staleness/max"]))
        f.staleness_sum += metrics["staleness/mean"]
        f.learner_idle_s += metrics["time/wait_for_experience_s"]
        f.learner_s += metrics["time/step_s"]
        if "reward/mean" in metrics:
            f.last_reward = metrics["reward/mean"]
            f.first_reward = f.last_reward if f.first_reward is None else f.first_reward
        rolled = self._rolled()
        # what the meta-RM passed over is its own metric
        f.fates = self._ledger.fates()
        fates = {f"groups/{fate}": count for fate, count in f.fates.items() if fate != "skipped"}
        queues = self._queues()
        self._tracker.log(
            {"learner/version": report.version, **metrics, **rolled, **fates}
            | {f"queue/{name}": count for name, count in queues.items()}
        )
        self._progress.update(
            step=report.version,
            reward=metrics.get("reward/mean"),
            parse_failure_rate=metrics.get("parse/failure_rate"),
            staleness_max=f.staleness_max,
            tokens_per_s=rolled["throughput/tokens_per_s"],
            workers=len(self._crew.rollouts),
            queues=queues,
        )
        self._begin_evaluation()

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
            "rollout/workers": len(self._crew.rollouts),
        }
        if worked:
            figures["idle/rollout_ratio"] = sum(r.idle_s for r in recent) / worked
        if pulls:
            figures["time/pull_s"] = sum(r.pull_s for r in recent) / pulls
            figures["time/pause_s"] = sum(r.pause_s for r in recent) / pulls
        return figures

    def _queues(self) -> dict[str, int]:
        return lengths(self._crew.redis, self._crew.address.run_id)

    # ---- evaluation while training -------------------------------------------------------------------------------

    def _begin_evaluation(self) -> None:
        """Every `eval.every` versions, unless one is still under way or the run's last evaluation is next. No prompt
        is issued meanwhile, so at eta = 0 the engine has nothing else to do and the run stays reproducible."""
        every, version = self._config.eval.every, self.figures.version
        if every and version % every == 0 and version < self._config.grpo.steps and self._evaluating is None:
            drafts = self._heldout[: self._config.eval.during_limit]
            self._evaluating = Evaluating(self._crew, self._config, drafts, when="during", version=version)

    def _advance_evaluation(self) -> None:
        if self._evaluating is None:
            return
        if self._grades is None:
            if all_ready(self._evaluating.refs):
                self._grades = self._evaluating.grade()
        elif all_ready([self._grades]):
            result = self._evaluating.result(ray.get(self._grades))
            self._evaluating = self._grades = None
            self.figures.evaluations.append(result)
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
