"""A run from preflight to its report: which stages there are, what they leave behind.

    cold_start   base ─judge─▶ accuracy ─sample, reject─▶ dataset ─fine-tune─▶ the policy's start and frozen reference
    online_rl    judge (greedy, K votes) ─▶ GRPO and the meta-RM on the live stream ─▶ judge again
    count_votes  the meta-RM scores the votes ─▶ accuracy over k, plain and guided

    runs/<run id>/  inputs.json  config.yaml  summary.json  report.html  metrics.jsonl  samples.jsonl  evaluations.jsonl
                    run_state.json  cold_start/  votes/  checkpoints/  judge/  wandb/  redis/  stacks/  failure.txt

A run that was cut off is resumed from this folder: each stage looks for what an earlier try has finished.
"""

import os
import time
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Literal, Self

from configs.schema import Config
from launch.cluster.failures import RunFailed
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors
from launch.cluster.training_actors import SamplingActors, TrainingActors
from launch.driver.best_checkpoint import BestCheckpoint
from launch.driver.cold_start import ColdStart
from launch.driver.easy_preferences import without_easy
from launch.driver.issue import reopen_round
from launch.driver.online_rl import Training
from launch.driver.own_streams import require_own_streams
from launch.driver.resumed import show_earlier
from launch.driver.run_begin import announce, evaluations_of, new_tracker
from launch.driver.run_end import FAILURES, Ended, failure_sentence, how_to_go_on, record
from launch.driver.run_state import RunState
from launch.driver.stage_judging import StageJudging
from launch.driver.summary import Finished, RunResults, summary
from launch.driver.teacher_sampling import require_teacher
from launch.driver.trained_judge import files_of_run
from launch.driver.vote_counting import count_votes
from launch.judging.run_judgements import RunJudgements
from launch.judging.samples import When
from launch.monitoring import records
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.redaction import redacted
from launch.monitoring.tensorboard_files import require_installed
from launch.monitoring.tracker import METRICS_FILE, Job
from launch.monitoring.wandb_check import require_usable
from launch.setup.gpu_blocks import Stages, held_parts
from launch.setup.judge_settings import settings_of
from launch.setup.places import private_files
from launch.setup.preference_data import RunData
from launch.setup.preflight import prepare_run
from launch.setup.resource_plan import gpus_needed
from launch.setup.revisions import hub_revisions
from launch.setup.run_folder import can_resume_cold_start, lock_run_folder
from launch.setup.signals import end_on_signals, held_off


class Pipeline:
    """The stages of one run. A context manager: constructing it checks everything that can be checked before processes start;
    leaving it ends every process and writes the summary and the report, whatever happened.

    Inside the block only there are `_results`, `_run_state`, `_cluster`, `_tracker`, `_progress`, `_judgements`, `_cold_start`.
    """

    def __init__(
        self,
        config: Config,
        *,
        preset: str,
        progress: ProgressDisplay,
        stages: Stages = "all",
        resume: bool = False,
        data: RunData | None = None,
    ) -> None:
        """Checks the input and makes the run folder.

        Args:
            config: The run's.
            preset: Name of its preset, for people.
            progress: Shows what the run does, and is closed by it at the end.
            stages: Those that will be run, which say how many GPUs are needed.
            resume: The folder that the config names holds a run that was cut off, and that goes on.
            data: Its preferences, where they are loaded already.

        Raises:
            ConfigError, DataError, TemplateError: The input cannot be used.
        """
        self._began, self._progress = time.monotonic(), progress
        progress.activity("checking model, data and machine")
        require_usable(config.tracking, config.run.id, os.environ)
        require_installed(config.tracking)
        self._config, self._preset, self._stages = config, preset, stages
        require_teacher(config)
        self._inputs = prepare_run(config, preset=preset, resume=resume, data=data)
        self.folder = self._inputs.folder
        self._settings = settings_of(config, self._inputs.train, self._inputs.tokenizer)
        self._revisions = hub_revisions(self._inputs.model, [*config.data.train, *config.data.heldout])
        self._policy = self._inputs.model  # what training starts from: the base, or the cold start's
        self._resumed = resume
        self._continued = resume or can_resume_cold_start(self.folder)

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # whatever happens in here, a signal too, what was begun is ended
            stack.callback(os.close, lock_run_folder(self.folder))
            self._load_results()
            announce(self._config, self._inputs, resumed=self._resumed, continued=self._continued)
            self._progress.activity("starting Redis and Ray")
            self._cluster = self._make_cluster()
            end_on_signals()
            stack.enter_context(self._cluster)
            stack.enter_context(private_files())
            address, show = self._cluster.address(), self._progress.activity
            require_own_streams(self._config, address, self.folder, continued=self._continued, show=show)
            self._cluster.require_shared_folder()
            # What an earlier try has recorded is untouched up to here.
            job: Job = "train" if self._stages == "all" else "cold-start"
            self._tracker = new_tracker(self._config, self.folder, self._revisions, job)
            end_on_signals()  # again: Ray put its own handlers in place
            if len(lines := self._cluster.drawn_gpus()) > 1:
                self._progress.note(f"GPUs by node: {'; '.join(lines)}")
            self._judgements = self._make_judgements()
            self._judging = self._make_judging()
            self._cold_start = ColdStart(self._config, self._inputs, folder=self.folder / "cold_start", progress=self._progress)
            self._run_state.add_time("start", time.monotonic() - self._began)
            self._stack = stack.pop_all()
        return self

    def _load_results(self) -> None:
        """What an earlier try has found. The lock is held: reading may repair a file."""
        self._run_state = RunState(self.folder / "run_state.json")
        totals, took_s = self._run_state.totals, time.monotonic() - self._began
        totals.preset = totals.preset or self._preset
        self._progress.begin_run(self.folder.name, elapsed_s=totals.seconds.get("total", 0.0) + took_s)
        show_earlier(self._progress, records.read(self.folder / METRICS_FILE))
        self._run_state.begin("total", since=self._began)
        self._results = RunResults(judged=self._inputs.judged, training=self._run_state.totals)
        self._results.evaluations.update(evaluations_of(self.folder))

    def _make_cluster(self) -> Cluster:
        return Cluster(
            self._config,
            run_id=self.folder.name,
            folder=self.folder,
            model=self._inputs.model,
            gpus=gpus_needed(self._config, self._stages),
            held=held_parts(self._config, self._stages),
            continued=self._continued,
        )

    def _make_judgements(self) -> RunJudgements:
        inputs, folder = self._inputs, self.folder / "votes"
        return RunJudgements(self._config, inputs.judged, tokenizer=inputs.tokenizer, folder=folder, **self._shown)

    def _make_judging(self) -> StageJudging:
        return StageJudging(
            self._config,
            self._judgements,
            results=self._results,
            run_state=self._run_state,
            tracker=self._tracker,
            progress=self._progress,
            folder=self.folder,
        )

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
                self._judging.evaluate(actors, "before", version=0)
                with self._run_state.timed("sample"):
                    self._cold_start.sample(actors)
        self._results.cold_start = self._cold_start.build_dataset()
        with self._run_state.timed("fine_tune"):
            beside = self._files_beside("judge")
            self._results.cold_start = self._cold_start.fine_tune(
                self._cluster, self._results.cold_start, self._tracker.log, beside
            )

    @property
    def _cold_stage(self) -> dict[str, Any]:
        return {"tokenizer": self._inputs.tokenizer, "stage": "cold-start", **self._shown}

    @property
    def _shown(self) -> dict[str, Any]:
        return {"note": self._progress.note, "show": self._progress.activity}

    def _sample_from_teacher(self) -> None:
        """The base is judged by its own engines; the judgements to learn from need none."""
        if "before" not in self._results.evaluations:
            with StageActors(self._cluster, self._config, model=self._inputs.model, **self._cold_stage) as actors:
                self._judging.evaluate(actors, "before", version=0)
        with self._run_state.timed("sample"):
            self._cold_start.sample_from_teacher()

    def evaluate_cold_start(self) -> None:
        """The fine-tuned policy on the held-out preferences, where no training follows."""
        with StageActors(self._cluster, self._config, model=self._policy, **self._cold_stage) as actors:
            self._judging.evaluate(actors, "cold_start", version=0)

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
            beside={
                "policy": self._files_beside("judge"),
                "meta-rm": self._files_beside("meta-rm"),
            },
            **self._shown,
        )
        if self._resumed:
            reopen_round(self._config, self._cluster.address(), self._inputs.prompts.take, note=self._progress.note)
        best = BestCheckpoint(self.folder / "checkpoints")
        with actors:
            self._judging.judge(actors, start, version=0)
            training = Training(
                self._config,
                actors=actors,
                prompts=self._inputs.prompts,
                judgements=self._judgements,
                tracker=self._tracker,
                progress=self._progress,
                run_state=self._run_state,
                best=best,
            )
            with self._run_state.timed("train"):
                training.run()
            version = self._run_state.totals.version
            self._judging.judge(actors, "after", version=version)
            last = self._judgements.as_during("after", version=version)
            best.evaluated(version, last.figure, last.rows)

    def _leave_out_easy(self) -> None:
        samples, note = self._cold_start.samples, self._progress.note
        self._inputs = without_easy(self._config, self._inputs, samples, note=note)

    def count_votes(self) -> None:
        """Accuracy over k of each policy that voted, with the last meta-RM choosing the votes and without."""
        if not self._config.eval.votes:
            return
        self._progress.activity("counting the votes")
        meta_rms, note = self.folder / "checkpoints" / "meta-rm", self._progress.note
        with self._run_state.timed("count_votes"):
            count_votes(
                self._config, self._cluster, self._judgements, self._results, self._tracker, meta_rms=meta_rms, note=note
            )

    # ---- the end -------------------------------------------------------------------------------------------------

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """RunFailed stands for every error that a run which has begun may end with; other errors are errors of the program."""
        with self._stack:
            with held_off(lambda: self._progress.note("the run ends: its summary and report are being written")):
                ended = self._finish(error)
            print(ended.text, end="", flush=True)
        if isinstance(error, FAILURES):
            raise RunFailed(failure_sentence(error, self.folder)) from error
        if error is None and ended.unwritten:
            raise RunFailed(ended.unwritten)

    def _finish(self, error: BaseException | None) -> Ended:
        """End the processes first: what is written after that cannot be cut short by them."""
        self._progress.activity("ending the processes")
        self._cluster.close()
        self._progress.activity("writing summary and report")
        finished: Finished = "completed"
        if error is not None:
            finished = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(OSError):  # what cannot be written is said of the summary, below
            self._run_state.save()
        known = records.read(self.folder / METRICS_FILE)
        whole = summary(self._config, self._results, known, run_id=self.folder.name, finished=finished)
        whole |= {"revisions": self._revisions, "skipped": self._inputs.skipped, "ended": time.time()}
        if error is not None and finished == "failed":
            whole["error"] = failure_sentence(error, self.folder)
        beside = self._files_beside("judge")
        again = how_to_go_on(self.folder, self._stages, self._run_state.totals.version, self._config.grpo.steps)
        ended = record(self.folder, redacted(whole), self._tracker, error, beside=beside, again=again)
        self._progress.close()
        return ended

    def _files_beside(self, kind: Literal["judge", "meta-rm"]) -> dict[str, str]:
        """Returns what lies beside the weights of a model of this kind, by what is known now."""
        settings = self._settings.model_copy(update={"kind": kind})
        return files_of_run(self._config, self._inputs, settings, self._results)
