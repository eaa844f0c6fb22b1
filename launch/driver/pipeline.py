"""A run from preflight to its report: which stages there are, what they leave behind.

    cold_start   base ─judge─▶ accuracy ─sample, reject─▶ dataset ─fine-tune─▶ the policy's start and frozen reference
    online_rl    judge (greedy, K votes) ─▶ GRPO and the meta-RM on the live stream ─▶ judge again
    count_votes  the meta-RM scores the votes ─▶ accuracy over k, plain and guided

    runs/<run id>/  inputs.json  config.yaml  summary.json  report.html  metrics.jsonl  samples.jsonl  evaluations.jsonl
                    run_state.json  cold_start/  votes/  checkpoints/  wandb/  redis/  stacks/  failure.txt

A run that was cut off is resumed from this folder: each stage looks for what an earlier try has finished.
"""

import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from buffer.ledger import Ledger
from buffer.streams import connect
from configs.schema import Config
from launch.cluster.failures import RunFailed
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors
from launch.cluster.training_actors import SamplingActors, TrainingActors
from launch.driver.cold_start import ColdStart
from launch.driver.easy_preferences import without_easy
from launch.driver.issue import reopen
from launch.driver.online_rl import Training
from launch.driver.own_streams import require_own_streams
from launch.driver.run_begin import EVALUATIONS, announce, evaluations_of, new_tracker
from launch.driver.run_end import FAILURES, failure_sentence, record
from launch.driver.run_state import RunState
from launch.driver.summary import Finished, RunResults, summary
from launch.driver.teacher_sampling import require_teacher
from launch.judging.heldout import When
from launch.judging.meta_scores import guiding_meta_rm
from launch.judging.run_judgements import RunJudgements
from launch.monitoring import jsonl_log
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.redaction import redacted
from launch.monitoring.wandb_check import require_usable
from launch.page.scaling import vote_metrics
from launch.setup.places import private_files
from launch.setup.preflight import prepare_run
from launch.setup.resource_plan import Stages, gpus_needed
from launch.setup.revisions import hub_revisions
from launch.setup.run_folder import can_resume_cold_start, lock_run_folder
from launch.setup.signals import end_on_signals


class Pipeline:
    """The stages of one run. A context manager: constructing it checks everything that can be checked before processes start;
    leaving it ends every process and writes the summary and the report, whatever happened.

    Inside the block only there are `_results`, `_run_state`, `_cluster`, `_tracker`, `_progress`, `_judgements`, `_cold_start`.
    """

    def __init__(self, config: Config, *, preset: str, stages: Stages = "all", resume: bool = False) -> None:
        """Checks the input and makes the run folder.

        Args:
            config: The run's.
            preset: Name of its preset, for people.
            stages: Those that will be run, which say how many GPUs are needed.
            resume: The folder that the config names holds a run that was cut off, and that goes on.

        Raises:
            ConfigError, DataError, TemplateError: The input cannot be used.
        """
        self._began = time.monotonic()
        require_usable(config.tracking, config.run.id, os.environ)
        self._config, self._preset, self._stages = config, preset, stages
        require_teacher(config)
        self._inputs = prepare_run(config, preset=preset, resume=resume)
        self.folder = self._inputs.folder
        data = config.data
        self._revisions = hub_revisions(self._inputs.model, [*data.train, *data.heldout])
        self._policy = self._inputs.model  # what training starts from: the base, or the cold start's
        self._resumed = resume
        self._continued = resume or can_resume_cold_start(self.folder)

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # whatever happens in here, a signal too, what was begun is ended
            stack.callback(os.close, lock_run_folder(self.folder))
            self._load_results()
            self._run_state.begin("total", since=self._began)
            announce(self._config, self._inputs, resumed=self._resumed, continued=self._continued)
            self._cluster = self._make_cluster()
            end_on_signals()
            stack.enter_context(self._cluster)
            stack.enter_context(private_files())
            require_own_streams(self._config, self._cluster.address(), self.folder, continued=self._continued)
            self._cluster.require_shared_folder()
            # What an earlier try has recorded is untouched up to here.
            self._tracker = new_tracker(self._config, self.folder, self._revisions)
            end_on_signals()  # again: Ray put its own handlers in place
            steps, bound = self._config.grpo.steps, self._config.grpo.max_staleness
            self._progress = stack.enter_context(ProgressDisplay(steps, bound, title=self.folder.name))
            self._judgements = self._make_judgements()
            self._cold_start = ColdStart(self._config, self._inputs, folder=self.folder / "cold_start", progress=self._progress)
            self._run_state.add_time("start", time.monotonic() - self._began)
            self._stack = stack.pop_all()
        return self

    def _load_results(self) -> None:
        """What an earlier try has found. The lock is held: reading may repair a file."""
        self._run_state = RunState(self.folder / "run_state.json")
        self._results = RunResults(judged=self._inputs.judged, training=self._run_state.totals)
        self._results.evaluations.update(evaluations_of(self.folder))

    def _make_cluster(self) -> Cluster:
        return Cluster(
            self._config,
            run_id=self.folder.name,
            folder=self.folder,
            model=self._inputs.model,
            gpus=gpus_needed(self._config, self._stages),
            continued=self._continued,
        )

    def _make_judgements(self) -> RunJudgements:
        inputs, note = self._inputs, self._progress.note
        return RunJudgements(self._config, inputs.judged, tokenizer=inputs.tokenizer, folder=self.folder / "votes", note=note)

    # ---- stages --------------------------------------------------------------------------------------------------

    def cold_start(self) -> None:
        """RFT: sample, reject, fine-tune; training then starts from the result. Goes on where it was interrupted."""
        self._policy = str(self._cold_start.model)
        if (self.folder / "checkpoints").exists():  # training began, so all of this is done
            self._results.cold_start = self._cold_start.load()
            return
        if self._config.cold_start.teacher:
            self._sample_from_teacher()
        elif "before" not in self._results.evaluations or not self._cold_start.is_sampled():
            model, preferences = self._inputs.model, self._inputs.preferences
            with SamplingActors(
                self._cluster, self._config, model=model, preferences=preferences, **self._cold_stage
            ) as actors:
                self._evaluate(actors, "before", version=0)
                with self._run_state.timed("sample"):
                    self._cold_start.sample(actors)
        self._results.cold_start = self._cold_start.build_dataset()
        with self._run_state.timed("fine_tune"):
            self._results.cold_start = self._cold_start.fine_tune(self._cluster, self._results.cold_start, self._tracker.log)

    @property
    def _cold_stage(self) -> dict[str, Any]:
        return {"tokenizer": self._inputs.tokenizer, "stage": "cold-start", "note": self._progress.note}

    def _sample_from_teacher(self) -> None:
        """The base is judged by its own engines; the judgements to learn from need none."""
        if "before" not in self._results.evaluations:
            with StageActors(self._cluster, self._config, model=self._inputs.model, **self._cold_stage) as actors:
                self._evaluate(actors, "before", version=0)
        with self._run_state.timed("sample"):
            self._cold_start.sample_from_teacher()

    def evaluate_cold_start(self) -> None:
        """The fine-tuned policy on the held-out preferences, where no training follows."""
        with StageActors(self._cluster, self._config, model=self._policy, **self._cold_stage) as actors:
            self._evaluate(actors, "cold_start", version=0)

    def online_rl(self) -> None:
        """GRPO and the meta-RM on the live stream until `grpo.steps`; the policy is judged before and after."""
        enabled = self._config.cold_start.enabled
        start: When = "cold_start" if enabled else "before"
        if enabled:
            self._leave_out_easy()
        actors = TrainingActors(
            self._cluster,
            self._config,
            model=self._policy,
            tokenizer=self._inputs.tokenizer,
            preferences=self._inputs.preferences,
            checkpoints=self.folder / "checkpoints",
            cold_start_samples=self._cold_start.samples if enabled else None,
            note=self._progress.note,
        )
        if self._resumed:
            self._reopen_round()
        with actors:
            self._judge(actors, start, version=0)
            training = Training(
                self._config,
                actors=actors,
                prompts=self._inputs.prompts,
                judgements=self._judgements,
                tracker=self._tracker,
                progress=self._progress,
                run_state=self._run_state,
            )
            with self._run_state.timed("train"):
                training.run()
            self._judge(actors, "after", version=self._run_state.totals.version)

    def _leave_out_easy(self) -> None:
        before, self._inputs = self._inputs, without_easy(self._config, self._inputs, self._cold_start.samples)
        if left_out := before.prompts.questions - self._inputs.prompts.questions:
            self._progress.note(
                f"online RL leaves out {left_out} of {before.prompts.questions} training preferences, which the cold start"
                " always got right (data.skip_easy)"
            )

    def _reopen_round(self) -> None:
        address = self._cluster.address()
        with connect(address, timeout_s=self._config.waits.server_s) as client:
            if again := reopen(Ledger(client, address.run_id), self._config, self._inputs.prompts.take):
                self._progress.note(f"resumed in the middle of a round: its {again} prompts are sampled again")

    def count_votes(self) -> None:
        """Accuracy over k of each policy that voted, with the last meta-RM choosing the votes and without."""
        if not self._config.eval.votes:
            return
        with self._run_state.timed("count_votes"):
            self._results.votes = self._judgements.count(self._cluster, self._last_meta_rm())
        for when, row in self._results.votes.items():
            version = self._results.training.version if when == "after" else 0
            self._tracker.log({"eval/version": version, **vote_metrics(row)})

    def _last_meta_rm(self) -> Path | None:
        if not self._config.meta_rm.enabled:
            return None
        guide = guiding_meta_rm(self.folder / "checkpoints" / "meta-rm", self._results.training.meta_examples)
        if guide is None:
            self._progress.note(
                f"the meta-RM took no step, as fewer than meta_rm.batch = {self._config.meta_rm.batch} parsed"
                " completions came together, so it guides no votes"
            )
        return guide

    # ---- judging -------------------------------------------------------------------------------------------------

    def _judge(self, actors: StageActors, when: When, *, version: int) -> None:
        """Greedy judgements and votes of the stage's policy, as far as they are not on disk."""
        self._evaluate(actors, when, version=version)
        if self._config.eval.votes:
            with self._run_state.timed(f"vote_{when}"):
                self._judgements.vote(actors, when, version=version)

    def _evaluate(self, actors: StageActors, when: When, *, version: int) -> None:
        """Judge the held-out preferences greedily under the stage's policy, unless an earlier try did."""
        if when in self._results.evaluations:
            return
        with self._run_state.timed(f"evaluate_{when}"):
            result, samples = self._judgements.evaluate(actors, when, version=version)
        self._results.evaluations[when] = result
        jsonl_log.append(self.folder / EVALUATIONS, [result.row()])
        self._tracker.log(result.metrics())
        self._tracker.samples(samples)
        self._progress.update(accuracy=result.accuracy)
        self._progress.note(f"evaluated {when.replace('_', ' ')}: {result.describe()}")

    # ---- the end -------------------------------------------------------------------------------------------------

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """RunFailed stands for every error that a run which has begun may end with; other errors are errors of the program."""
        with self._stack:
            unwritten = self._finish(error)
        if isinstance(error, FAILURES):
            raise RunFailed(failure_sentence(error, self.folder)) from error
        if error is None and unwritten:
            raise RunFailed(unwritten)

    def _finish(self, error: BaseException | None) -> str:
        """End the processes first: what is written after that cannot be cut short by them. Returns why there is no summary."""
        self._progress.__exit__(None, None, None)
        self._cluster.close()
        finished: Finished = "completed"
        if error is not None:
            finished = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(OSError):  # what cannot be written is said of the summary, below
            self._run_state.save()
        whole = summary(self._config, self._results, run_id=self.folder.name, preset=self._preset, finished=finished)
        whole |= {"revisions": self._revisions, "skipped": self._inputs.skipped}
        if error is not None and finished == "failed":
            whole["error"] = failure_sentence(error, self.folder)
        return record(self.folder, redacted(whole), self._tracker, error)
