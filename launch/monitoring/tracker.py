"""What a run records while it works: metrics, sample judgements, and the W&B run that shows them live.

    component ── metrics ──▶ Tracker.log ──┬─▶ run_folder/metrics.jsonl     (plain lines: the report and the tests read them)
                                           └─▶ W&B                          (offline in run_folder/wandb without a key)

One process owns the tracker; components return metrics as values. `METRICS` is the only list of names: any other name is
refused, so that a typo fails on its first step and not in front of an empty chart. Every metric has an axis, the counter of
the role that made it, because the roles of an asynchronous system share no step. This file and wandb_check.py alone import
wandb, and only once a run begins: the import takes seconds, which a dry run and the report are spared.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from buffer import files, json_lines
from configs.load import ConfigError
from launch.monitoring import jsonl_log, processes, tensorboard_files
from launch.monitoring.metrics import ELAPSED, METRICS, checked
from launch.monitoring.plain_text import clean
from launch.monitoring.redaction import redacted
from launch.monitoring.wandb_check import Mode, chosen_mode
from launch.monitoring.wandb_sessions import session_id

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

Job = Literal["train", "cold-start", "evaluate"]

METRICS_FILE, SAMPLES_FILE = "metrics.jsonl", "samples.jsonl"
INIT_TIMEOUT_S = 30.0  # a server that has not answered by then counts as unreachable
SERVICES_EXIT_S = 5.0  # for W&B's own processes to exit by themselves
FINISH_TIMEOUT_S = 120.0  # what is not uploaded by then stays in the run folder, for `wandb sync`


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleJudgement:
    """One completion as a person reads it. Responses, scores and label stand in shown order, as the critique numbers them."""

    when: Literal["before", "cold_start", "during", "after"]
    """Stage of the run; before and after refer to the training."""
    version: int
    """Policy version that wrote it."""
    preference: str
    """Id of the preference."""
    query: str
    """The query that the responses answer."""
    responses: tuple[str, ...]
    """The responses that were judged."""
    label: int
    """Index of the best response; for a single response 1 right, 0 wrong."""
    principles: str
    """The criteria that the judge set; "" if the completion did not parse."""
    critique: str
    """The judge's analysis; "" if the completion did not parse."""
    scores: tuple[int, ...]
    """One score a response; empty if the completion did not parse."""
    reward: float
    """The rule's reward, -1 or +1."""
    failure: str = ""
    """The parser's reason; "" for a completion that parsed."""
    completion: str = ""
    """The raw text of a completion that did not parse, or that holds scores alone; "" of another."""


class Tracker:
    """Owner of a run's records.

    Attributes:
        mode: how W&B is used; never `auto`.
    """

    def __init__(
        self,
        run_folder: Path,
        run_id: str,
        config: Mapping[str, Any],
        project: str,
        mode: Mode,
        *,
        job: Job = "train",
        tensorboard: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the records of a run, new or resumed, and start its W&B run.

        Args:
            run_folder: an existing folder.
            run_id: id of the run, here and in W&B.
            config: stored in W&B, without its credentials.
            project: W&B's project.
            mode: how to use W&B; resolved by `chosen_mode`.
            job: what the run does, its job type in W&B.
            tensorboard: whether TensorBoard's files are written as well.
            clock: seconds, ascending.
        """
        self._folder, self._clock = run_folder.absolute(), clock
        path = self._folder / METRICS_FILE
        jsonl_log.repair(path)
        self._began = clock() - _last_elapsed(path)
        self._file = files.open_to_append(path, buffering=1)
        self.mode = chosen_mode(mode, os.environ)
        self._writer = tensorboard_files.open_writer(self._folder) if tensorboard else None
        self._run: wandb.Run | None = None
        if self.mode != "disabled":
            self._run, self.mode = _start(self._folder, run_id, redacted(config), project, self.mode, job)
            for name, entry in METRICS.items():
                self._run.define_metric(name.replace("@k", "@*"), step_metric=None if name == entry.axis else entry.axis)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Record metrics of one or several roles, each role with its axis; the elapsed time is added here.

        A value that is not finite reaches W&B as it is, and metrics.jsonl as null, because JSON cannot express it.

        Raises:
            MetricError: see `checked`.
        """
        record = checked({**metrics, ELAPSED: self._clock() - self._began})
        plain = {name: value if math.isfinite(value) else None for name, value in record.items() if name != ELAPSED}
        self._file.write(json.dumps({"elapsed_s": round(record[ELAPSED], 3), "metrics": plain}) + "\n")
        if self._writer is not None:
            tensorboard_files.write(self._writer, record)
        if self._run is not None:
            self._run.log(record)

    def samples(self, rows: Sequence[SampleJudgement]) -> None:
        """Append judgements to samples.jsonl, and log them to W&B as the table `samples/<when>`."""
        path = self._folder / SAMPLES_FILE
        jsonl_log.repair(path)
        with files.open_to_append(path) as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
        if self._run is None:
            return
        import wandb

        for when in dict.fromkeys(row.when for row in rows):
            table = [asdict(row) for row in rows if row.when == when]
            cells = [[_cell(value) for value in row.values()] for row in table]
            self._run.log({f"samples/{when}": wandb.Table(columns=list(table[0]), data=cells)})

    def alert(self, title: str, text: str) -> None:
        """Send a W&B alert (mail, Slack); an offline run keeps it for `wandb sync`."""
        if self._run is not None:
            self._run.alert(title=redacted(title), text=redacted(text))

    def artifact(self, kind: Literal["dataset", "model"], folder: Path, names: Sequence[str], made_from: Sequence[str]) -> None:
        """Log a W&B artifact named after the run and the folder: a few small files of it, and where the rest lies.

        Args:
            kind: Its type.
            folder: What it stands for; weights and data stay where they are.
            names: Files of it to keep with the artifact; of them those that are there.
            made_from: The names of the artifacts that it was made from, as in its metadata `made_from`.
        """
        if self._run is None:
            return
        import wandb

        metadata = {"folder": str(folder), "made_from": list(made_from)}
        artifact = wandb.Artifact(self.artifact_name(folder), type=kind, metadata=metadata)
        for name in names:
            if (folder / name).is_file():
                artifact.add_file(str(folder / name), name=name, policy="immutable", skip_cache=True)  # not copied home
        self._run.log_artifact(artifact)

    def artifact_name(self, folder: Path) -> str:
        """Returns the name of the artifact of a folder: the run's id, and behind it the folder's place in the run."""
        place = folder.absolute().relative_to(self._folder).as_posix().replace("/", "-")
        return f"{self._folder.name}-{'inputs' if place == '.' else place}"

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary into the W&B run, and end it; its service processes have exited when this returns."""
        with suppress(OSError):  # the lines that a full disk did not take: `log` has raised it
            self._file.close()
            if self._writer is not None:
                self._writer.close()
        if self._run is None:
            return
        import wandb

        self._run.summary.update(redacted(summary))
        self._run.finish(exit_code=1 if summary.get("finished") == "failed" else 0)
        services = processes.children_named("wandb")
        wandb.teardown()
        processes.await_exit_or_kill(services, grace_s=SERVICES_EXIT_S)  # its monitor notices a little later
        self._run = None


def _start(folder: Path, run_id: str, config: dict[str, Any], project: str, mode: Mode, job: Job) -> tuple[wandb.Run, Mode]:
    """Start the W&B run; if the server cannot be reached, warn and continue offline.

    Returns:
        The run, and the mode that is in force.
    """
    import wandb

    modes: tuple[Literal["online", "offline"], ...] = ("online", "offline")
    ids = {each: session_id(folder, run_id, each) for each in modes}  # before a try to reach the server leaves a folder

    def begin(mode: Literal["online", "offline"]) -> wandb.Run:
        settings = wandb.Settings(
            mode=mode,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,  # the command line may contain a password; the config holds all that matters
            init_timeout=INIT_TIMEOUT_S,
            finish_timeout=FINISH_TIMEOUT_S,
        )
        resume: Literal["allow"] | None = "allow" if mode == "online" else None
        return wandb.init(
            project=project,
            id=ids[mode],
            name=ids[mode],
            group=run_id,
            job_type=job,
            dir=folder,
            config=config,
            settings=settings,
            resume=resume,
        )

    if mode == "offline":
        return begin("offline"), mode
    try:
        return begin("online"), mode
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:  # to be corrected before hours of training
        raise ConfigError(f"W&B: {str(error).rstrip('.')}; correct the key, or choose tracking.mode=offline") from None
    except wandb.errors.CommError as error:
        log.warning(
            "W&B cannot be reached, so this run is tracked offline in %s (`wandb sync` uploads it later): %s",
            folder / "wandb",
            clean(str(error)),
        )
        wandb.teardown()  # its service still holds the run's id
        return begin("offline"), "offline"


def _cell(value: Any) -> Any:
    """Returns a value for a W&B table, which holds numbers and strings: texts become numbered lines, numbers one line."""
    if not isinstance(value, list | tuple):
        return value
    numbers = all(isinstance(item, Real) for item in value)
    return ", ".join(map(str, value)) if numbers else "\n\n".join(f"[{i}] {item}" for i, item in enumerate(value, 1))


def _last_elapsed(path: Path) -> float:
    """Returns the elapsed seconds of the run before it was resumed; 0 for a new run."""
    elapsed_s: Any = 0.0
    for _, row in json_lines.rows(path):
        elapsed_s = row.get("elapsed_s")
    if not isinstance(elapsed_s, int | float):
        raise ConfigError(f"{path}: the last line has no 'elapsed_s': remove it")
    return float(elapsed_s)
