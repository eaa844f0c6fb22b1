"""What a run writes down while it works: metrics, sample judgements, and the W&B run that shows them live.

    component ── figures ──▶ Tracker.log ──┬─▶ run_folder/metrics.jsonl     (plain, ours: the report and the tests read it)
                                           └─▶ W&B                          (offline in run_folder/wandb without a key)

One process owns the tracker; components return figures as values. `METRICS` is the only list of names: a name that is not
in it is refused, so that a typo fails on its first step and not in front of an empty chart. Every metric has an axis, the
counter of the role that made it, because the roles of an asynchronous system do not share one step. This is the only file
that imports wandb, and only once a run begins: the import costs seconds that a dry run and the report need not pay.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from configs.load import ConfigError
from launch.monitoring import jsonl_log
from launch.monitoring.metrics import ELAPSED, METRICS, checked
from launch.monitoring.plain_text import redacted

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

Mode = Literal["auto", "offline", "online", "disabled"]
METRICS_FILE, SAMPLES_FILE = "metrics.jsonl", "samples.jsonl"
INIT_TIMEOUT_S = 30.0  # a server that has not answered by then is taken for unreachable
FINISH_TIMEOUT_S = 120.0  # what was not uploaded by then stays in the run folder, for `wandb sync`


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleJudgement:
    """One completion as a person reads it. Responses, scores and label stand in shown order, as the critique numbers them.

    `label`: index of the best; for one response 1 right, 0 wrong. `failure` is "" for a completion
    that parsed, else the parser's reason; then `scores` is empty and `completion` holds all there is to read.
    """

    when: Literal["before", "cold_start", "during", "after"]
    version: int
    preference: str
    query: str
    responses: tuple[str, ...]
    label: int
    principles: str
    critique: str
    scores: tuple[int, ...]
    reward: float
    failure: str = ""
    completion: str = ""


def chosen_mode(mode: Mode, environ: Mapping[str, str]) -> Mode:
    """`auto` resolved: what WANDB_MODE says, else online if there is a key, else offline. Others stay as they are."""
    if mode != "auto":
        return mode
    wish = environ.get("WANDB_MODE", "")
    modes: dict[str, Mode] = {
        "online": "online",
        "run": "online",
        "offline": "offline",
        "dryrun": "offline",
        "disabled": "disabled",
        "": "online" if environ.get("WANDB_API_KEY") else "offline",
    }
    if wish not in modes:
        raise ConfigError(f"WANDB_MODE={wish!r} is not one this run can follow: use online, offline or disabled")
    return modes[wish]


class Tracker:
    """Owner of a run's records. `mode` is what was decided (`auto` never); the run folder must exist."""

    def __init__(
        self,
        run_folder: Path,
        run_id: str,
        config: Mapping[str, Any],
        project: str,
        mode: Mode,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._clock = run_folder.absolute(), clock
        path = self._folder / METRICS_FILE
        jsonl_log.repair(path)
        self._began = clock() - _last_elapsed(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self.mode = chosen_mode(mode, os.environ)
        self._run: wandb.Run | None = None
        if self.mode != "disabled":
            self._run, self.mode = _start(self._folder, run_id, redacted(config, os.environ), project, self.mode)
            for name, entry in METRICS.items():
                self._run.define_metric(name.replace("@k", "@*"), step_metric=None if name == entry.axis else entry.axis)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Record figures of one or several roles, each role with its axis; the elapsed time is added here.

        A value that is not finite reaches W&B as it is and metrics.jsonl as null (JSON has no other word for it).
        """
        record = checked({**metrics, ELAPSED: self._clock() - self._began})
        plain = {name: value if math.isfinite(value) else None for name, value in record.items() if name != ELAPSED}
        self._file.write(json.dumps({"elapsed_s": round(record[ELAPSED], 3), "metrics": plain}) + "\n")
        if self._run is not None:
            self._run.log(record)

    def samples(self, rows: Sequence[SampleJudgement]) -> None:
        """Append judgements to samples.jsonl, and show them as the W&B table `samples/<when>`."""
        path = self._folder / SAMPLES_FILE
        jsonl_log.repair(path)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
        if self._run is None:
            return
        import wandb

        for when in dict.fromkeys(row.when for row in rows):
            table = [asdict(row) for row in rows if row.when == when]
            cells = [[_cell(value) for value in row.values()] for row in table]
            self._run.log({f"samples/{when}": wandb.Table(columns=list(table[0]), data=cells)})

    def alert(self, title: str, text: str) -> None:
        """Call a person by W&B's own ways (mail, Slack); a run that is offline keeps it for `wandb sync`."""
        if self._run is not None:
            self._run.alert(title=title, text=text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary into the W&B run and end it; its service process is gone when this returns."""
        self._file.close()
        if self._run is None:
            return
        import wandb

        self._run.summary.update(redacted(summary, os.environ))
        self._run.finish(exit_code=1 if summary.get("finished") == "failed" else 0)
        wandb.teardown()
        self._run = None


def _start(folder: Path, run_id: str, config: dict[str, Any], project: str, mode: Mode) -> tuple[wandb.Run, Mode]:
    """The W&B run, and the mode it got: a server that cannot be reached costs a warning, not the run."""
    import wandb

    def begin(mode: Literal["online", "offline"]) -> wandb.Run:
        settings = wandb.Settings(
            mode=mode,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,  # the command line may hold a password; the config says all that matters
            init_timeout=INIT_TIMEOUT_S,
            finish_timeout=FINISH_TIMEOUT_S,
        )
        resume: Literal["allow"] | None = "allow" if mode == "online" else None
        return wandb.init(project=project, id=run_id, name=run_id, dir=folder, config=config, settings=settings, resume=resume)

    if mode == "offline":
        return begin("offline"), mode
    try:
        return begin("online"), mode
    except wandb.errors.AuthenticationError:
        raise  # a wrong key is the user's to mend, before hours of training
    except wandb.errors.CommError as error:
        log.warning(
            "W&B cannot be reached, so this run is tracked offline in %s (`wandb sync` uploads it later): %s",
            folder / "wandb",
            str(error).splitlines()[0],
        )
        wandb.teardown()  # its service still holds the run's id
        return begin("offline"), "offline"


def _cell(value: Any) -> Any:
    """A W&B table holds numbers and strings: lists become numbered lines, or numbers on one line."""
    if not isinstance(value, list | tuple):
        return value
    numbers = all(isinstance(item, Real) for item in value)
    return ", ".join(map(str, value)) if numbers else "\n\n".join(f"[{i}] {item}" for i, item in enumerate(value, 1))


def _last_elapsed(path: Path) -> float:
    """Seconds that an earlier part of this run had come to; 0 for a new run."""
    written = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return float(json.loads(written[-1])["elapsed_s"]) if written else 0.0
