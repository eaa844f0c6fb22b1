"""The online RL stage: the driver issues prompts on credit and takes the reports of the actors.

    issue while outstanding < (eta + 1) * B ─▶ prompts ─▶ … ─▶ the learner's step ─▶ credit comes back
                                                                   └ every `eval.every` versions ─▶ an evaluation

An actor that dies is replaced and the loop goes on; a learner goes back to its checkpoint, so versions may come twice.
An evaluation runs beside the rollouts and stops nothing, with one exception: at eta = 0 nothing is issued while it runs, so
its version is fixed and a run with one worker is reproducible to the last bit.
"""

import time
from collections.abc import Callable
from typing import Any

from actors.reward import RewardReport
from actors.rollout_report import RolloutReport
from buffer.ledger import Ledger
from buffer.streams import lengths
from configs.schema import Config
from launch.cluster.actor_group import ActorGroup, State
from launch.cluster.failures import RunFailed
from launch.cluster.rollout_pool import RolloutPool
from launch.cluster.supervision import SupervisedGroup, poll
from launch.cluster.training_actors import TrainingActors
from launch.driver.best_checkpoint import BestCheckpoint
from launch.driver.format_diagnosis import of_arrivals, of_nothing
from launch.driver.issue import issue
from launch.driver.outcome_watch import OutcomeWatch
from launch.driver.resumed import resumed_text
from launch.driver.rollout_window import RolloutWindow
from launch.driver.run_state import RunState
from launch.driver.stopping import save
from launch.judging.heldout import RunningEvaluation
from launch.judging.run_judgements import RunJudgements
from launch.monitoring import diagnosis
from launch.monitoring.alarms import Alarms
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.tracker import Tracker
from launch.setup.prompt_source import PromptSource
from launch.setup.signals import StopRequest
from learner.arrivals import ArrivalsReport
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
        judgements: RunJudgements,
        tracker: Tracker,
        progress: ProgressDisplay,
        run_state: RunState,
        best: BestCheckpoint,
    ) -> None:
        """Takes over a stage whose actors are ready.

        Args:
            config: The run's.
            actors: The stage.
            prompts: What is issued.
            judgements: What evaluations ask.
            tracker: Gets the metrics.
            progress: Gets log lines.
            run_state: Where the run stands, kept up to date; of a resumed run, where it stood.
            best: Keeps the version that judges best.
        """
        self._config, self._actors, self._prompts, self._judgements = config, actors, prompts, judgements
        self._tracker, self._progress, self._run_state = tracker, progress, run_state
        self._best = best
        self._ledger = Ledger(actors.redis, actors.address.run_id)
        self._reached = run_state.totals.version  # in an earlier try; the learner may be behind it
        run_state.totals.version = self._ledger.version()
        self._restarts_before = dict(run_state.totals.restarts)
        self._window = RolloutWindow()
        self._alarms = Alarms(config.grpo.max_staleness)
        self._outcome_watch = OutcomeWatch(actors.redis, actors.address.run_id)
        self._uninformative = ""  # why no step is taken, where the learner knows
        self._stepped_at = time.monotonic()
        self._evaluation: RunningEvaluation | None = None
        self._pool = RolloutPool(actors, config, on_report=self._on_rollout_report, note=progress.note)
        self._reward = self._supervised(actors.reward, self._on_reward_report)
        self._grpo = self._supervised(actors.grpo, self._on_grpo_report)
        self._learners = [self._grpo]
        if actors.meta_rm is not None:
            self._learners.append(self._supervised(actors.meta_rm, self._on_meta_rm_report))

    def _supervised(self, group: ActorGroup, on_report: Callable[[Any], None]) -> SupervisedGroup:
        return SupervisedGroup(group, on_report=on_report, restarts=self._config.cluster.restarts, note=self._progress.note)

    def run(self) -> None:
        """Train to the last step and to the end of an evaluation under way.

        A signal ends it between two turns, with checkpoints of what was learnt; a second signal ends it at once.

        Raises:
            KeyboardInterrupt: A signal ended it.
            RunFailed: An actor group died too often, every group became a dead letter, or no judgement is read.
            FinalError: A rollout actor failed for good under an evaluation.
            TimeoutError: No optimiser step came within `waits.progress_s`; it names the process that holds up the others.
        """
        self._show_where_it_stands()
        stop = StopRequest()
        with self._actors.heartbeat.activity("drive the training"), stop.awaited():
            for group in (self._reward, *self._pool.workers):
                group.work()
            if not self._trained:
                for group in self._learners:
                    group.step()
            while not stop.asked and (not self._trained or self._evaluation is not None):
                self._turn()
            if stop.asked:  # in the last turn, too
                self._save_to_stop()
                raise KeyboardInterrupt
        self._save_meta_rm()
        self._run_state.totals.outcomes = self._ledger.outcomes()

    def _show_where_it_stands(self) -> None:
        """Show the first steps, or say what of an earlier try is kept."""
        begun = self._ledger.cursor().group > 0
        if begun:
            self._progress.note(resumed_text(self._ledger, reached=self._reached))
        if not self._trained:
            self._progress.activity(f"waiting for the {'next' if begun else 'first'} step")

    def _save_to_stop(self) -> None:
        """Write checkpoints of the learners that have learnt something, in `waits.progress_s` at most."""
        totals, limit_s = self._run_state.totals, self._config.waits.progress_s
        learners = self._learners if totals.version else [group for group in self._learners if group is not self._grpo]
        if not (totals.version or totals.meta_completions):
            return
        self._progress.activity("writing checkpoints")
        others, note = [self._reward, *self._pool.workers], self._progress.note
        if save(learners, others, actors=self._actors, limit_s=limit_s, note=note):
            meta_rm = f"the meta-RM, behind its step {len(totals.meta_completions)}; the policy has taken none"
            note(f"saved: {f'the checkpoint of step {totals.version}' if totals.version else meta_rm}")
        totals.outcomes = self._ledger.outcomes()

    @property
    def _trained(self) -> bool:
        return self._run_state.totals.version >= self._config.grpo.steps

    def _turn(self) -> None:
        """One turn of the loop; it waits for a report, but not for long. Supervision goes on until the last evaluation ends."""
        if not self._trained:
            self._issue()
            self._outcome_watch.check(self._config.credit)
            self._check_progress()
        self._pool.reconcile()
        self._poll()
        self._actors.watch()
        self._advance_evaluation()

    def _issue(self) -> None:
        if self._evaluation is None or self._config.grpo.max_staleness > 0:
            issue(self._ledger, self._config, self._prompts.take)

    def _poll(self) -> None:
        """Take the reports of the slices that are over, and give the next ones; a learner gets none after the last step."""
        for group in poll([self._reward, *self._learners, *self._pool.workers]):
            if group in self._learners:
                self._follow(group)
                if not self._trained:
                    group.step()
            elif group is self._reward:
                group.work()
            else:
                self._pool.go_on(group)

    def _follow(self, learner: SupervisedGroup) -> None:
        """Take the version of a GRPO learner that is between two slices from the ledger. Its last report may have been lost
        with it, behind the checkpoint of the last step: one more step would be in no checkpoint."""
        if learner is self._grpo and learner.group.state is State.READY:
            self._run_state.totals.version = self._ledger.version()

    def _check_progress(self) -> None:
        limit_s = self._config.waits.progress_s
        if self._evaluation is not None and not self._config.grpo.max_staleness:
            self._stepped_at = time.monotonic()  # nothing is issued meanwhile, and `waits.judge_s` bounds it
        if time.monotonic() - self._stepped_at < limit_s:
            return
        report = diagnosis.describe(diagnosis.diagnose_run(self._actors.redis, self._actors.address.run_id, self._config))
        self._tracker.alert(f"no optimiser step for {limit_s:.0f} s", report)
        raise TimeoutError(
            f"the driver waited {limit_s:.0f} s for optimiser step {self._run_state.totals.version + 1} (waits.progress_s)"
            f"{self._uninformative}{self._actors.placement.unplaced_text(self._actors.groups)}\n{report}"
        )

    def _save_meta_rm(self) -> None:
        """The policy's last step wrote its own checkpoint; the meta-RM, which has no last step, writes one now."""
        group = self._actors.meta_rm
        if group is None:
            return
        limit_s, what = self._config.waits.progress_s, f"{group.name} to save (waits.progress_s)"
        self._actors.retry_on_death(
            lambda: self._actors.answers([rank.save.remote() for rank in group.actors], limit_s=limit_s, what=what), group
        )

    # ---- reports -------------------------------------------------------------------------------------------------

    def _on_rollout_report(self, report: RolloutReport) -> None:
        self._window.add(report)
        self._run_state.totals.add_rollout(report)

    def _on_reward_report(self, report: RewardReport) -> None:
        self._run_state.totals.lost_hand_offs += report.lost

    def _on_meta_rm_report(self, report: MetaRMReport) -> None:
        self._run_state.totals.add_meta_rm(report)
        self._tracker.log({"meta_rm/step": report.version, **report.metrics})

    def _on_arrivals(self, report: ArrivalsReport) -> None:
        """No step was taken for a while, as nothing can be learnt from what arrives. It is logged beside the last step."""
        self._tracker.log({"learner/version": report.version, **report.metrics})
        text = self._outcome_watch.since_step(report.metrics)
        self._uninformative = f": {text}"
        self._require_format(report)
        if self._outcome_watch.is_note_due():
            self._progress.note(f"no optimiser step for {time.monotonic() - self._stepped_at:.0f} s: {text}")

    def _require_format(self, report: ArrivalsReport) -> None:
        """RunFailed when no judgement was ever read, of many."""
        if of_nothing(self._config, report):
            unread = self._judgements.unread("before") or self._judgements.unread("cold_start")
            raise RunFailed(of_arrivals(self._config, report, unread))

    def _on_grpo_report(self, report: GRPOReport | ArrivalsReport) -> None:
        if isinstance(report, ArrivalsReport):
            self._on_arrivals(report)
            return
        totals, metrics = self._run_state.totals, report.metrics
        self._stepped_at, self._uninformative = time.monotonic(), ""
        self._outcome_watch.stepped()
        self._best.look()
        totals.add_grpo(report)
        totals.outcomes = self._ledger.outcomes()
        totals.restarts = self._restarts()
        self._run_state.save()
        rollout, queues = self._window.take_metrics(), lengths(self._actors.redis, self._actors.address.run_id)
        # groups that the meta-RM passed over are its own metric
        outcomes = {f"groups/{outcome}": count for outcome, count in totals.outcomes.items() if outcome != "skipped"}
        self._tracker.log(
            {
                "learner/version": report.version,
                **metrics,
                **rollout,
                **outcomes,
                "groups/lost_hand_offs": totals.lost_hand_offs,
                "rollout/workers": len(self._actors.rollouts),
                "actors/restarts": sum(totals.restarts.values()),
                **{f"queue/{name}": count for name, count in queues.items()},
            }
        )
        for alarm in self._alarms.check(metrics):
            self._tracker.alert(alarm.title, alarm.text)
            self._progress.note(f"{alarm.title}: {alarm.text}")
        self._progress.update(
            step=report.version,
            reward=metrics.get("reward/mean"),
            parse_failure_rate=metrics.get("parse/failure_rate"),
            staleness_max=totals.staleness_max,
            tokens_per_s=rollout["throughput/tokens_per_s"],
            workers=len(self._actors.rollouts),
            queues=queues,
        )
        if "idle/rollout_ratio" in rollout:
            self._pool.autoscale(metrics["idle/learner_ratio"], rollout["idle/rollout_ratio"])
        self._begin_evaluation()

    def _restarts(self) -> dict[str, int]:
        """Returns the replacements since the run began, by group."""
        now = {group.name: group.replaced for group in (self._reward, *self._learners)}
        now["rollout actors"] = self._pool.replaced
        return {name: self._restarts_before.get(name, 0) + count for name, count in now.items()}

    # ---- evaluation while training -------------------------------------------------------------------------------

    def _begin_evaluation(self) -> None:
        """Every `eval.every` versions, unless one is still under way or the run's last evaluation is next."""
        every, version = self._config.eval.every, self._run_state.totals.version
        if every and version % every == 0 and not self._trained and self._evaluation is None:
            self._evaluation = self._judgements.begin_evaluation(self._actors, version=version)

    def _advance_evaluation(self) -> None:
        """One look at it. What a worker that died has not answered is asked again of another one; when workers die of it
        again and again, or do not answer within `waits.judge_s`, it is left out: the next one is `eval.every` versions away.
        A final error of a worker ends the run, as under its other work: the evaluation after the training would meet it too."""
        if self._evaluation is None:
            return
        try:
            done = self._evaluation.advance()
        except (RunFailed, TimeoutError) as error:
            self._evaluation = None
            self._progress.note(f"an evaluation is left out: {error}")
            return
        if done is None:
            return
        result, samples = done
        self._evaluation = None
        self._tracker.log(result.metrics())
        self._tracker.samples(samples)
        self._progress.update(accuracy=result.accuracy)
        self._best.evaluated(result.version, result.figure, result.rows)
