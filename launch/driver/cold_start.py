"""The cold start (RFT): sample, reject, fine-tune; online RL then starts from the result.

plan ─▶ sampled.jsonl ─▶ verdicts.json, dataset.jsonl ─▶ fine-tuning ─▶ model, outcome.json         in <run>/cold_start/
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from buffer import files, json_lines
from buffer.json_text import read_object
from configs.schema import Config
from launch.cluster.ray_cluster import Cluster
from launch.cluster.training_actors import SamplingActors
from launch.driver import teacher_sampling
from launch.driver.cold_start_sampling import Planned, Sampling, missing, plan, verdict_counts
from launch.driver.fine_tuning import fine_tune, require_examples, write_dataset
from launch.driver.sft_judging import JudgedPrompts, judged_prompts
from launch.driver.teacher_sampling import Taught
from launch.monitoring.console import ProgressDisplay
from launch.setup.preflight import RunInputs
from learner.sft import SFTReport


class ColdStart:
    """Each half goes on where an earlier try was interrupted."""

    def __init__(self, config: Config, inputs: RunInputs, *, folder: Path, progress: ProgressDisplay) -> None:
        """Reads and writes nothing yet.

        Args:
            config: The run's.
            inputs: What the run starts from.
            folder: Of the cold start's files, which may not exist yet.
            progress: Gets log lines.
        """
        self._config, self._inputs, self._folder, self._progress = config, inputs, folder, progress
        self._planned: list[Planned] | None = None

    @property
    def samples(self) -> Path:
        """The file of sampled judgements; the meta-RM is trained on them first."""
        return self._folder / "sampled.jsonl"

    @property
    def model(self) -> Path:
        """The fine-tuned policy."""
        return self._folder / "model"

    def is_sampled(self) -> bool:
        """Returns whether every planned group is on disk."""
        return not missing(self._plan(), self.samples)

    def sample(self, actors: SamplingActors) -> None:
        """Sample the groups that are not on disk. Errors as of `Sampling.run`."""
        self._folder.mkdir(exist_ok=True)
        Sampling(
            self._config,
            actors=actors,
            planned=self._plan(),
            tokenizer=self._inputs.tokenizer,
            path=self.samples,
            progress=self._progress,
        ).run()

    def sample_from_teacher(self) -> None:
        """Take the judgements from `cold_start.teacher`, as far as they are not on disk. Errors as of `teacher_sampling`."""
        self._folder.mkdir(exist_ok=True)
        self._progress.activity("cold start: taking the judgements of the teacher")
        inputs = self._inputs
        taught = Taught(
            config=self._config,
            prompts=inputs.prompts,
            train=inputs.train,
            tokenizer=inputs.tokenizer,
            note=self._progress.note,
        )
        if self._config.cold_start.asks_endpoint:
            teacher_sampling.ask(taught, self._plan(), self.samples)
        elif not self.samples.exists():
            teacher_sampling.read(taught, inputs.taught, self.samples)

    def build_dataset(self) -> dict[str, Any]:
        """Keep what is to be learnt.

        Returns:
            The judgements by verdict, the examples by kind.

        Raises:
            RunFailed: Nothing was kept.
        """
        verdicts = verdict_counts(row for _, row in json_lines.rows(self.samples))
        dataset, context = self._folder / "dataset.jsonl", self._config.model.context
        labels = {p.question.id: p.label for p in self._inputs.train} if self._config.cold_start.balance else None
        examples = write_dataset(dataset, self.samples, self._inputs.mixed, self._inputs.tokenizer, context, balanced=labels)
        if self._config.cold_start.teacher:
            examples["too_long"] += sum(row.get("too_long", 0) for _, row in json_lines.rows(self.samples))
        counts = {"verdicts": verdicts, "examples": examples}
        files.write(self._folder / "verdicts.json", json.dumps(counts, indent=2) + "\n")
        self._progress.note(
            f"cold start: of {sum(verdicts.values())} judgements {_counted(verdicts)}; examples to learn: {_counted(examples)}"
        )
        require_examples(examples, verdicts)
        return counts

    def fine_tune(
        self,
        cluster: Cluster,
        counts: Mapping[str, Any],
        log: Callable[[Mapping[str, float]], None],
        beside: Mapping[str, str],
    ) -> dict[str, Any]:
        """Fine-tune the policy on what was kept.

        Args:
            cluster: Where the ranks run.
            counts: What `build_dataset` returned.
            log: Gets the metrics of each step.
            beside: The files that lie beside the weights of its models.

        Returns:
            What came of the cold start, for the summary. Errors as of `fine_tuning.fine_tune`.
        """

        def on_report(report: SFTReport) -> None:
            log({"sft/step": report.version, **report.metrics})
            self._progress.activity("cold start: fine-tuning", done=report.version, total=self._config.cold_start.steps)
            if report.heldout_loss is not None:
                accuracy = report.metrics.get("sft/heldout_accuracy")
                judged = "" if accuracy is None else f", judged right {accuracy:.1%}"
                self._progress.note(
                    f"cold start: fine-tuned {report.version} steps, loss {report.loss:.4f}, held out"
                    f" {report.heldout_loss:.4f}{judged} (best at {report.best})"
                )

        self._progress.activity("cold start: loading the fine-tuning")
        _, status = fine_tune(
            cluster,
            self._config,
            model=self._inputs.model,
            folder=self._folder,
            beside=beside,
            judged=self._judged() if self._config.cold_start.select == "accuracy" else None,
            on_report=on_report,
            note=self._progress.note,
        )
        if status.version < self._config.cold_start.steps:
            self._progress.note(
                f"cold start: no better than step {status.best} for a while, so it ends after {status.version} of"
                f" {self._config.cold_start.steps} steps; the policy of step {status.best} goes on"
            )
        outcome = {**counts, "steps": status.version, "best_step": status.best, "heldout_loss": status.best_loss}
        if status.best_accuracy is not None:
            outcome["heldout_accuracy"] = status.best_accuracy
        files.write(self._folder / "outcome.json", json.dumps(outcome))
        return outcome

    def _judged(self) -> JudgedPrompts:
        return judged_prompts(self._config, self._inputs, sampled=self.samples, dataset=self._folder / "dataset.jsonl")

    def load(self) -> dict[str, Any]:
        """Returns what came of a cold start that ended in an earlier try."""
        return read_object(self._folder / "outcome.json")

    def _plan(self) -> list[Planned]:
        if self._planned is None:
            self._planned = plan(self._config, self._inputs.prompts, self._inputs.train)
        return self._planned


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
