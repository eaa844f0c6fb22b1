"""A run from the door to its report: which stages there are, what they leave behind.

    cold_start   base ─judge─▶ accuracy ─sample, reject─▶ dataset ─fine-tune─▶ the policy's start and frozen reference
    online_rl    judge (greedy, K votes) ─▶ GRPO and the meta-RM on the live stream ─▶ judge again
    count_votes  the meta-RM scores the votes ─▶ accuracy over k, plain and guided

    runs/<run id>/  config.yaml  summary.json  report.html  metrics.jsonl  samples.jsonl  evaluations.jsonl
                    run_state.json  cold_start/  votes/  checkpoints/  wandb/  redis/  stacks/

A run that was cut off is resumed from this folder: each stage looks for what an earlier try has finished.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import ray

from buffer.heartbeat import last_heartbeats
from buffer.ledger import Ledger
from buffer.streams import connect, in_use
from configs.load import ConfigError, dump
from configs.schema import Config
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors, TrainingActors
from launch.cluster.supervision import RunFailed
from launch.driver import cold_start_sampling
from launch.driver.fine_tuning import fine_tune, require_some, write_dataset
from launch.driver.issue import reopen
from launch.driver.online_rl import Training
from launch.driver.run_state import RunState
from launch.driver.summary import Finished, RunResults, summary
from launch.judging.heldout import Evaluation, When, evaluate
from launch.judging.run_votes import RunVotes
from launch.monitoring import jsonl_log
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.diagnosis import COLD_START
from launch.monitoring.plain_text import clean_lines
from launch.monitoring.tracker import Tracker, chosen_mode
from launch.page.run_page import write_report
from launch.page.scaling import vote_metrics
from launch.setup import resource_plan
from launch.setup.preflight import format_skipped, prepare_run
from launch.setup.run_folder import can_resume_cold_start, lock_run_folder
from launch.setup.signals import end_on_signals
from learner import checkpoint, json_lines
from learner.sft import SFTReport


class Pipeline:
    """Use as a context manager. Constructing it checks everything that can be checked before processes start;
    leaving it ends every part and writes the summary and the report, whatever happened."""

    def __init__(self, config: Config, *, preset: str, resume: bool = False) -> None:
        """resume: the folder that the config names holds a run that was cut off, and that goes on."""
        self._began = time.monotonic()
        chosen_mode(config.tracking.mode, os.environ)
        self._config, self._preset = config, preset
        self._inputs = prepare_run(config, preset=preset, resume=resume)
        self.folder = self._inputs.folder
        self._policy = self._inputs.model  # what training starts from: the base, or the cold start's
        self._resumed = resume
        self._continued = resume or can_resume_cold_start(self.folder)
        self.status = 0
        self._run_state = RunState(self.folder / "run_state.json")
        self._results = RunResults(judged=self._inputs.judged, training=self._run_state.totals)
        for row in jsonl_log.repair_and_read(self.folder / "evaluations.jsonl"):
            self._results.evaluations[row["when"]] = Evaluation(**row, grades=())

    def __enter__(self) -> Self:
        config, inputs = self._config, self._inputs
        self._held = lock_run_folder(self.folder)
        if not self._resumed:
            (self.folder / "config.yaml").write_text(dump(config), encoding="utf-8")
        print(
            f"run        {self.folder}\n{resource_plan.describe(config, inputs.processes)}{format_skipped(inputs.skipped)}",
            flush=True,
        )
        gpus = resource_plan.gpus_needed(config)
        self._cluster = Cluster(config, run_id=self.folder.name, folder=self.folder, model=inputs.model, gpus=gpus)
        end_on_signals()
        try:
            self._cluster.__enter__()
            self._require_own_streams()
            self._tracker = Tracker(
                self.folder, self.folder.name, config.model_dump(), config.tracking.project, config.tracking.mode
            )
        except BaseException:  # what an earlier try has recorded stays as it is
            self._cluster.close()
            os.close(self._held)
            raise
        end_on_signals()  # again: Ray put its own handlers in place
        self._progress = ProgressDisplay(config.grpo.steps, config.grpo.max_staleness, title=self.folder.name)
        self._progress.__enter__()
        self._run_votes = None
        if config.eval.votes:
            self._run_votes = RunVotes(config, inputs.judged, folder=self.folder / "votes", note=self._progress.note)
        self._results.seconds["start"] = time.monotonic() - self._began
        return self

    def _require_own_streams(self) -> None:
        """ConfigError when the server holds a run of this id that is not this folder's, or that goes on; when it has lost
        the streams of a run that is to be resumed."""
        address = self._cluster.address()
        with connect(address, timeout_s=self._config.waits.server_s) as client:
            names = (address.run_id, address.run_id + COLD_START)
            known = [name for name in names if in_use(client, name)]
            if known and not self._continued:
                raise ConfigError(
                    f"run.id: {address.run_id} is in use on the Redis server; choose another run.id, or go on with it:"
                    f" --resume {self.folder}"
                )
            if address.run_id not in known and (self.folder / "checkpoints").exists():
                raise ConfigError(
                    f"--resume: the streams of {address.run_id} are not on the Redis server any more, so what was issued is"
                    f" not known; start a new run from {self.folder / 'checkpoints' / 'policy'}"
                )
            drivers = [found["driver"] for name in names if "driver" in (found := last_heartbeats(client, name))]
            # (An embedded server has one driver: another one would not have got it started.)
            for driver in drivers if self._config.redis.url else ():
                if driver.age_s < self._config.waits.heartbeat_s:
                    raise ConfigError(
                        f"--resume: the run goes on, its driver (process {driver.pid} on {driver.host}) was on_report of"
                        f" {driver.age_s:.0f} s ago; if it was killed just now, wait {self._config.waits.heartbeat_s:.0f} s"
                    )

    # ---- cold start ----------------------------------------------------------------------------------------------

    def cold_start(self) -> None:
        """RFT: sample, reject, fine-tune; training then starts from the result. Goes on where it was interrupted."""
        config, inputs, folder = self._config, self._inputs, self.folder / "cold_start"
        if (self.folder / "checkpoints").exists():  # training began, so all of this is done
            self._load_cold_start()
            return
        folder.mkdir(exist_ok=True)
        planned = cold_start_sampling.plan(config, inputs.prompts, inputs.train)
        path = folder / "sampled.jsonl"
        if "before" not in self._results.evaluations or cold_start_sampling.missing(planned, path):
            with self._stage_actors("cold-start") as actors:
                self._evaluate(actors, "before", version=0)
                with self._timed("sample"):
                    cold_start_sampling.Sampling(
                        config, actors=actors, planned=planned, tokenizer=inputs.tokenizer, path=path, progress=self._progress
                    ).run()
        verdicts = cold_start_sampling.verdict_counts(row for _, row in json_lines.rows(path))
        examples = write_dataset(folder / "dataset.jsonl", path, inputs.mixed, inputs.tokenizer, config.model.context)
        self._results.cold_start = {"verdicts": verdicts, "examples": examples}
        (folder / "verdicts.json").write_text(json.dumps(self._results.cold_start, indent=2) + "\n", encoding="utf-8")
        self._progress.note(f"cold start: {_counted(verdicts)}; to learn: {_counted(examples)}")
        require_some(examples, verdicts)
        with self._timed("fine_tune"):
            policy, run_state = fine_tune(
                self._cluster,
                config,
                model=inputs.model,
                folder=folder,
                on_report=self._on_sft_report,
                note=self._progress.note,
            )
        self._policy = str(policy)
        self._results.cold_start |= {
            "steps": run_state.version,
            "best_step": run_state.best,
            "heldout_loss": run_state.best_loss,
        }
        (folder / "outcome.json").write_text(json.dumps(self._results.cold_start), encoding="utf-8")

    def _load_cold_start(self) -> None:
        folder = self.folder / "cold_start"
        self._policy = str(folder / "model")
        self._results.cold_start = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))

    def evaluate_cold_start(self) -> None:
        """The fine-tuned policy on the held-out preferences, where no training follows."""
        with self._stage_actors("cold-start") as actors:
            self._evaluate(actors, "cold_start", version=0)

    def _on_sft_report(self, report: SFTReport) -> None:
        self._tracker.log({"sft/step": report.version, **report.metrics})
        if report.heldout_loss is not None:
            self._progress.note(
                f"cold start: fine-tuned {report.version} steps, loss {report.loss:.4f}, held out {report.heldout_loss:.4f}"
                f" (best at {report.best})"
            )

    # ---- online RL -----------------------------------------------------------------------------------------------

    def online_rl(self) -> None:
        """GRPO and the meta-RM on the live stream until `grpo.steps`; the policy is judged before and after."""
        config, inputs = self._config, self._inputs
        start: When = "cold_start" if config.cold_start.enabled else "before"
        seed = self.folder / "cold_start" / "sampled.jsonl" if config.cold_start.enabled else None
        actors = TrainingActors(
            self._cluster,
            config,
            model=self._policy,
            preferences=inputs.preferences,
            checkpoints=self.folder / "checkpoints",
            seed=seed,
        )
        if self._resumed:
            self._reopen_round()
        with actors:
            self._evaluate(actors, start, version=0)
            self._poll(actors, start, version=0)
            training = Training(
                config,
                actors=actors,
                prompts=inputs.prompts,
                heldout=inputs.drafts,
                tracker=self._tracker,
                progress=self._progress,
                run_state=self._run_state,
            )
            with self._timed("train"):
                training.run()
            self._run_state.save()
            version = self._run_state.totals.version
            self._evaluate(actors, "after", version=version)
            self._poll(actors, "after", version=version)

    def _reopen_round(self) -> None:
        address = self._cluster.address()
        with connect(address, timeout_s=self._config.waits.server_s) as client:
            if again := reopen(Ledger(client, address.run_id), self._config, self._inputs.prompts.take):
                self._progress.note(f"resumed in the middle of a round: its {again} prompts are sampled again")

    # ---- judging -------------------------------------------------------------------------------------------------

    def _stage_actors(self, stage: str) -> StageActors:
        return StageActors(self._cluster, self._config, model=self._policy, preferences=self._inputs.preferences, stage=stage)

    def _evaluate(self, actors: StageActors, when: When, *, version: int) -> None:
        """Judge the held-out preferences greedily under the actors's policy, unless an earlier try did."""
        if when in self._results.evaluations:
            return
        with self._timed(f"evaluate_{when}"):
            result = evaluate(actors, self._config, self._inputs.drafts, when=when, version=version)
        self._results.evaluations[when] = result
        jsonl_log.append(self.folder / "evaluations.jsonl", [result.row()])
        self._tracker.log(result.metrics())
        self._tracker.samples(result.samples(self._config.tracking.samples))
        self._progress.update(accuracy=result.accuracy)
        self._progress.note(
            f"evaluated {when.replace('_', ' ')}: accuracy {result.accuracy:.1%}, parsed {result.parse_rate:.1%}"
            f" of {result.rows} held-out preferences"
        )

    def _poll(self, actors: StageActors, when: When, *, version: int) -> None:
        """K sampled judgements of each held-out preference, onto disk: counted when the meta-RM is trained."""
        if self._run_votes is not None:
            with self._timed(f"vote_{when}"):
                self._run_votes.poll(actors, self._inputs.tokenizer, when, version=version)

    def count_votes(self) -> None:
        """Accuracy over k of each policy that was polled, with the last meta-RM choosing and without."""
        if self._run_votes is None:
            return
        newest = checkpoint.newest(self.folder / "checkpoints" / "meta-rm") if self._config.meta_rm.enabled else None
        with self._timed("count_votes"):
            self._results.votes = self._run_votes.count(self._cluster, newest[0] / "model" if newest else None)
        for when, row in self._results.votes.items():
            version = self._results.training.version if when == "after" else 0
            self._tracker.log({"eval/version": version, **vote_metrics(row)})

    # ---- the end -------------------------------------------------------------------------------------------------

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._progress.__exit__(kind, error, trace)
        self._finish(error)
        if isinstance(
            error, RunFailed | TimeoutError | ray.exceptions.RayError
        ):  # RayError: a part of no actors, or Ray itself
            print(f"failed: {clean_lines(str(error))}", file=sys.stderr)
            return True
        return False

    def _finish(self, error: BaseException | None) -> None:
        """End the parts first: what is written after that cannot be cut short by them."""
        self._cluster.close()
        finished: Finished = "completed"
        if error is not None:
            finished = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            self.status = 130 if finished == "stopped" else 1
        self._results.seconds["total"] = time.monotonic() - self._began
        found = summary(self._config, self._results, run_id=self.folder.name, preset=self._preset, finished=finished)
        found |= {"skipped": self._inputs.skipped} | ({"error": str(error)} if finished == "failed" else {})
        (self.folder / "summary.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        self._tracker.finish(found)
        report = write_report(self.folder)
        known = [(when.replace("_", " "), value) for when, value in found["accuracy"].items() if value is not None]
        if known:
            said = ", ".join(f"{when} {value:.1%}" for when, value in known)
            print(f"accuracy   {said} (chance {found['baselines']['chance']:.1%})")
        print(f"report     {report}", flush=True)
        os.close(self._held)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._results.seconds[stage] = time.monotonic() - started


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
