"""A run from the door to its report: what is checked first, which stages there are, what is left behind.

    runs/<run id>/  config.yaml  summary.json  report.html  metrics.jsonl  samples.jsonl  checkpoints/  wandb/  redis/
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from buffer.ledger import Cursor
from configs.load import ConfigError, dump
from configs.schema import Config
from grm.preferences import Loaded, Preference, load
from grm.rewards import chance_accuracy, longest_accuracy, shortest_accuracy
from launch import plan
from launch.cluster import Cluster
from launch.evaluation import Evaluation, When, evaluate
from launch.issuing import Draft, PromptSource, Tokenizer, source
from launch.models import architecture, resolve
from launch.progress import Progress
from launch.report import write_report
from launch.tracking import Tracker
from launch.training import Figures, PartFailed, Training

Finished = Literal["completed", "stopped", "failed"]


class Run:
    """Use as a context manager. Constructing it checks everything that can be checked before processes start;
    leaving it ends every part and writes the summary and the report, whatever happened."""

    def __init__(self, config: Config, *, preset: str) -> None:
        self._began = time.monotonic()
        self._config, self._preset = config, preset
        self._model = resolve(config.model.path)
        self._parts = plan.parts(config, self._model)
        train = _gather(config.data.train, config.data.train_limit)
        heldout = _gather(config.data.heldout, config.data.heldout_limit)
        self._preferences = _disjoint(train.preferences, heldout.preferences)
        tokenizer = Tokenizer(self._model)
        self._prompts: PromptSource = source(config, [p.question for p in train.preferences], tokenizer)
        self._heldout, self._skipped = _drafts(config, train, heldout, self._prompts, tokenizer)
        by_id = {p.question.id: p for p in heldout.preferences}
        self._judged = [by_id[draft.preference] for draft in self._heldout]
        self.folder = _folder(config, preset, self._model)
        self.status = 0
        self._evaluations: dict[str, Evaluation] = {}
        self._figures: Figures | None = None
        self._seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        (self.folder / "config.yaml").write_text(dump(self._config), encoding="utf-8")
        print(f"run        {self.folder}\n{plan.describe(self._config, self._parts)}{_told(self._skipped)}", flush=True)
        config = self._config
        self._tracker = Tracker(
            self.folder, self.folder.name, config.model_dump(), config.tracking.project, config.tracking.mode
        )
        self._cluster = Cluster(
            config, run_id=self.folder.name, folder=self.folder, model=self._model, preferences=self._preferences
        )
        _end_on_signals()
        try:
            self._cluster.__enter__()
        except BaseException as error:
            self._finish(error)
            raise
        _end_on_signals()  # again: Ray put its own handlers in place
        self._progress = Progress(config.grpo.steps, config.grpo.max_staleness, title=self.folder.name)
        self._progress.__enter__()
        self._seconds["start"] = time.monotonic() - self._began
        return self

    def evaluate(self, when: When) -> None:
        """Judge the held-out preferences greedily under the current policy."""
        started = time.monotonic()
        version = self._figures.version if self._figures else 0
        result = evaluate(self._cluster, self._config, self._heldout, when=when, version=version)
        self._evaluations[when] = result
        self._tracker.log(result.metrics())
        self._tracker.samples(result.samples(self._config.tracking.samples))
        self._progress.update(accuracy=result.accuracy)
        self._progress.note(
            f"evaluated {when} training: accuracy {result.accuracy:.1%}, parsed {result.parse_rate:.1%}"
            f" of {result.rows} held-out preferences"
        )
        self._seconds[f"evaluate_{when}"] = time.monotonic() - started

    def online_rl(self) -> None:
        """GRPO and the meta-RM on the live stream, until `grpo.steps`."""
        started = time.monotonic()
        training = Training(
            self._config,
            cluster=self._cluster,
            prompts=self._prompts,
            heldout=self._heldout,
            tracker=self._tracker,
            progress=self._progress,
        )
        self._figures = training.figures
        try:
            training.run()
        finally:
            self._seconds["train"] = time.monotonic() - started

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._progress.__exit__(kind, error, trace)
        self._finish(error)
        if isinstance(error, PartFailed | TimeoutError):
            print(f"failed: {error}", file=sys.stderr)
            return True
        return False

    def _finish(self, error: BaseException | None) -> None:
        """End the parts first: what is written after that cannot be cut short by them."""
        self._cluster.close()
        finished: Finished = "completed"
        if error is not None:
            finished = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            self.status = 130 if finished == "stopped" else 1
        summary = self._summary(finished) | ({"error": str(error)} if finished == "failed" else {})
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        self._tracker.finish(summary)
        report = write_report(self.folder)
        accuracy, base = summary["accuracy"], summary["baselines"]
        if accuracy["after"] is not None:
            print(
                f"accuracy   {accuracy['before']:.1%} -> {accuracy['after']:.1%} (chance {base['chance']:.1%}), "
                f"staleness max {summary['staleness']['max']} of {summary['staleness']['bound']}"
            )
        print(f"report     {report}", flush=True)

    def _summary(self, finished: Finished) -> dict[str, Any]:
        f = self._figures or Figures()
        before, after = self._evaluations.get("before"), self._evaluations.get("after")
        several = [p for p in self._judged if len(p.question.responses) > 1]
        window = f.meta_auc[-20:]
        return {
            "run_id": self.folder.name,
            "preset": self._preset,
            "seed": self._config.run.seed,
            "finished": finished,
            "accuracy": {"before": before and before.accuracy, "after": after and after.accuracy},
            "parse_rate": {"before": before and before.parse_rate, "after": after and after.parse_rate},
            "baselines": {
                "chance": chance_accuracy(self._judged),
                "longest_answer": longest_accuracy(several) if several else None,
                "shortest_answer": shortest_accuracy(several) if several else None,
            },
            "heldout": {"rows": len(self._judged), "n": sorted(Counter(len(p.question.responses) for p in self._judged))},
            "staleness": {
                "max": f.staleness_max if f.version else None,
                "mean": f.staleness_sum / f.version if f.version else None,
                "bound": self._config.grpo.max_staleness,
            },
            "groups": f.fates,
            "reward": {"first": f.first_reward, "last": f.last_reward},
            "idle": {
                "learner": f.learner_idle_s / f.learner_s if f.learner_s else None,
                "rollout": f.rollout_idle_s / f.rollout_s if f.rollout_s else None,
            },
            "meta_rm": {
                "auc": sum(window) / len(window) if window else None,
                "accuracy": sum(f.meta_accuracy[-20:]) / len(f.meta_accuracy[-20:]) if f.meta_accuracy else None,
                "examples": f.meta_examples,
            },
            "skipped": self._skipped,
            "seconds": {**self._seconds, "total": time.monotonic() - self._began},
            "steps": f.version,
            "tokens": f.tokens,
        }


# ---- the door --------------------------------------------------------------------------------------------------------


def _gather(sources: Sequence[str], limit: int) -> Loaded:
    """All sources in order, up to `limit` preferences (0: all). DataError names file, line and field."""
    loaded = [load(name, limit=limit or None) for name in sources]
    preferences = [p for one in loaded for p in one.preferences]
    skipped: Counter[str] = Counter()
    for one in loaded:
        skipped.update(one.skipped)
    if not preferences:
        raise ConfigError(f"no usable preference in {', '.join(sources)}: {dict(skipped) or 'they are empty'}")
    return Loaded(preferences=tuple(preferences[: limit or None]), skipped=dict(skipped))


def _disjoint(train: Sequence[Preference], heldout: Sequence[Preference]) -> list[Preference]:
    """Both lists as one, for the reward actor, which joins by id."""
    everything = [*train, *heldout]
    repeated = [name for name, count in Counter(p.question.id for p in everything).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"preference id {repeated[0]!r} occurs twice in data.train and data.heldout ({len(repeated)} such ids):"
            " held-out rows must not be trained on; make ids unique"
        )
    return everything


def _drafts(
    config: Config, train: Loaded, heldout: Loaded, prompts: PromptSource, tokenizer: Tokenizer
) -> tuple[list[Draft], dict[str, int]]:
    """-> (held-out prompts, what was passed over by reason). A prompt that is too long is counted, never cut."""
    drafts = source(config, [p.question for p in heldout.preferences], tokenizer).heldout(len(heldout.preferences))
    if not drafts:
        raise ConfigError(f"no held-out prompt fits in {config.max_prompt_tokens} tokens; raise model.context")
    prompts.take(Cursor(), 1)  # raises when no training prompt fits
    skipped = Counter(train.skipped) + Counter(heldout.skipped)
    skipped["prompt longer than the context"] += prompts.too_long() + len(heldout.preferences) - len(drafts)
    return drafts, {reason: count for reason, count in skipped.items() if count}


def _folder(config: Config, preset: str, model: str) -> Path:
    """Make the run folder. ConfigError when it exists, cannot be written or has no room for the checkpoints."""
    root = Path(config.run.dir).expanduser()
    if not root.is_absolute():
        # Inside `ray job submit` the working folder is Ray's throw-away copy.
        root = (Path.home() if "_ray_pkg_" in str(Path.cwd()) else Path.cwd()) / root
    folder = root / (config.run.id or f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}-s{config.run.seed}")
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"run.id: {folder} exists; choose another run.id or remove the folder") from None
    except OSError as error:
        raise ConfigError(f"run.dir = {config.run.dir!r}: cannot make {folder}: {error.strerror}") from error
    arch = architecture(model)
    if arch is not None:
        # a checkpoint: weights in the model's format, and AdamW's float32 weights and two moments
        need = (config.learner.keep_checkpoints + 1) * 16 * plan.parameters_of(arch) * (2 if config.meta_rm.enabled else 1)
        free = shutil.disk_usage(folder).free
        if need > free:
            folder.rmdir()
            raise ConfigError(
                f"run.dir = {config.run.dir!r}: {free / plan.GIB:.1f} GiB are free, {need / plan.GIB:.1f} are needed for"
                " checkpoints; free some, or lower learner.keep_checkpoints"
            )
    return folder


def _told(skipped: dict[str, int]) -> str:
    if not skipped:
        return ""
    return "\nskipped    " + ", ".join(f"{count} x {reason}" for reason, count in skipped.items())


def _end_on_signals() -> None:
    """`ray job stop` sends SIGTERM, Ctrl-C SIGINT (which a shell lets its background jobs ignore): both end the run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
