"""Where a judge lies that somebody names: a run, a checkpoint, a model folder, a hub name, a server.

runs/mine ─▶ the newest policy in checkpoints/policy, else cold_start/model;  its meta-RM, if that took a step
version-000080, checkpoints/latest, checkpoints/best ─▶ its model/         anything else ─▶ `model_files.resolve`
"""

from dataclasses import dataclass
from pathlib import Path

from configs.load import ConfigError
from configs.paths import expanded, find_run
from launch.setup.model_files import refuse_adapters, resolve
from learner import checkpoint
from learner.checkpoint import CheckpointError

JUDGE = "judge"  # folder of a run: its last model, with its card, to be taken elsewhere
SERVERS = ("http://", "https://")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSource:
    """A judge that was found."""

    model: str
    """A folder or a hub name; "" behind a server."""
    endpoint: str = ""
    """Address of its server; "": none."""
    meta_rm: str = ""
    """Folder of the meta-RM that was trained beside it; "": none."""
    version: int = 0
    """Policy version of a checkpoint; 0 where it is none."""
    run: Path | None = None
    """The run that it is of, where it was named by its run."""


def find_judge(source: str) -> JudgeSource:
    """Returns where a judge lies. ConfigError when there is none."""
    if source.startswith(SERVERS):
        return JudgeSource(model="", endpoint=source)
    folder = Path(expanded(source))
    if (folder / checkpoint.RECORD).is_file():
        folder = folder.resolve()  # a link may name another one in a moment
        return JudgeSource(model=_model_of(folder), version=_version(folder))
    run = None if (folder / "config.json").is_file() else find_run(source)
    if run is None:
        return JudgeSource(model=resolve(source))
    newest = _newest(run / "checkpoints" / "policy")
    version = 0 if newest is None else _version(newest)
    return JudgeSource(model=_policy_of(run, newest), meta_rm=_meta_rm_of(run), version=version, run=run)


def model_named(source: str) -> str:
    """Returns the model of a judge that is named by the folder of its run or of a checkpoint; any other name as it is.
    ConfigError when there is none."""
    folder = Path(expanded(source))
    known = any((folder / name).is_file() for name in (checkpoint.RECORD, "config.yaml"))
    return find_judge(source).model if known else source


def _policy_of(run: Path, newest: Path | None) -> str:
    if newest is not None:
        return _model_of(newest)
    for folder in (run / JUDGE, run / "cold_start" / "model"):
        if folder.is_dir():
            return resolve(str(folder))
    raise ConfigError(f"{run}: it has no trained judge yet: no checkpoint in checkpoints/policy, and no cold_start/model")


def _meta_rm_of(run: Path) -> str:
    """Returns the run's newest meta-RM, "" where there is none that took a step."""
    newest = _newest(run / "checkpoints" / "meta-rm")
    if newest is None or not _version(newest):
        return ""
    return str(newest / "model")


def _newest(folder: Path) -> Path | None:
    versions = checkpoint.versions(folder)
    return checkpoint.at(folder, versions[-1]) if versions else None


def _model_of(folder: Path) -> str:
    refuse_adapters(folder)
    return resolve(str(folder / "model"))


def _version(folder: Path) -> int:
    try:
        return checkpoint.read(folder).version
    except CheckpointError as error:
        raise ConfigError(f"{error}; give another") from error
