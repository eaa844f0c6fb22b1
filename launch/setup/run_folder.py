"""The folder of a run: made, found again for a resume, and locked against a second driver."""

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from buffer import files
from configs.load import MASK, ConfigError, dump
from configs.load import load as load_config
from configs.paths import NoHomeFolder, output_path
from configs.schema import Config
from launch.setup.memory_plan import WIDTHS
from launch.setup.model_shape import parameters, trained_parameters
from launch.setup.object_store import GIB
from launch.setup.places import write_problem

GROWING = ("*.jsonl", "votes/*.jsonl", "cold_start/*.jsonl", "stacks/*")  # files of a run folder that are added to
CHECKPOINT_BYTES = 16  # of a checkpoint, per trained parameter: weights, AdamW's float32 weights and its two moments


def create_run_folder(config: Config, preset: str, model: str) -> Path:
    """Make the run folder, or return one whose cold start was not followed by training yet.

    Raises:
        ConfigError: It cannot be used again or written, or it has no room for the checkpoints.
    """
    folder = output_path(config.run.dir) / (config.run.id or f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}-s{config.run.seed}")
    if can_resume_cold_start(folder):
        if _content(load_config(folder / "config.yaml")) != _content(config):
            raise ConfigError(f"run.id: {folder} was begun with another config; give that one, or choose another run.id")
        _require_no_links(folder)
        return folder
    try:
        folder.mkdir(parents=True, mode=0o700)  # prompts, responses and labels are the user's own
    except FileExistsError:
        raise _taken(folder) from None
    except OSError as error:
        raise ConfigError(f"run.dir = {config.run.dir!r}: cannot make {folder}: {error.strerror}") from error
    try:
        if problem := write_problem(folder):  # a full disk or a quota lets folders be made
            raise ConfigError(f"run.dir = {config.run.dir!r}: {folder} cannot be written: {problem}")
        _require_space(config, model, folder)
    except ConfigError:
        folder.rmdir()
        raise
    return folder


def require_free_id(config: Config) -> None:
    """ConfigError when the run's id is that of a run that is there: said before libraries are imported."""
    with suppress(NoHomeFolder):  # which the preflight explains
        folder = output_path(config.run.dir) / config.run.id
        if config.run.id and folder.exists() and not can_resume_cold_start(folder):
            raise _taken(folder)


def _taken(folder: Path) -> ConfigError:
    return ConfigError(f"run.id: {folder} exists; choose another run.id, remove the folder, or go on with it by --resume")


def _require_space(config: Config, model: str, folder: Path) -> None:
    """ConfigError when the disk has no room for the checkpoints of policy and meta-RM: of each the newest and one that is being
    written, and of the others that are kept their weights."""
    models = 2 if config.meta_rm.enabled else 1
    weights = WIDTHS[config.dtype] * parameters(config, model)
    merged = weights if config.learner.lora_rank else 0  # a model with its adapters
    each = merged + CHECKPOINT_BYTES * trained_parameters(config, model)
    need = models * (2 * each + (config.learner.keep_checkpoints - 1) * weights)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ConfigError(
            f"run.dir = {config.run.dir!r}: {free / GIB:.1f} GiB are free,"
            f" {need / GIB:.1f} are needed for checkpoints; free some, or lower learner.keep_checkpoints"
        )


def find_run_folder(config: Config) -> Path:
    """Returns the folder of the run that the config names. ConfigError when there is nothing to resume."""
    folder = output_path(config.run.dir) / config.run.id
    if not (folder / "checkpoints").exists() and not (folder / "redis").exists() and not (folder / "cold_start").exists():
        raise ConfigError(f"--resume {folder}: nothing there to go on from; start it again under another run.id")
    _require_no_links(folder)
    return folder


def _require_no_links(folder: Path) -> None:
    """ConfigError when a link stands in the place of a file that the run adds to: it would fail at the first line (`files`)."""
    link = next((path for pattern in GROWING for path in folder.glob(pattern) if path.is_symlink()), None)
    if link is not None:
        raise ConfigError(f"{link} is a link, and a run's files are not written through links: remove it")


def can_resume_cold_start(folder: Path) -> bool:
    """Whether a folder holds a run that ended during or right after its cold start, which can then go on."""
    return (folder / "cold_start").is_dir() and not (folder / "checkpoints").exists()


def lock_run_folder(folder: Path) -> int:
    """Keep other drivers out of a run's folder until the returned descriptor is closed or this process ends. ConfigError when
    another driver holds the lock."""
    lock = files.open_descriptor(folder / "driver.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(f"{folder}: the run is going on under another driver (see launch/status.py)") from None
    return lock


def _content(config: Config) -> str:
    """A config without the name of its run (one named by the clock goes on under that name), and without a password, which
    the folder's copy does not have."""
    return dump(config.model_copy(update={"run": config.run.model_copy(update={"id": "", "dir": ""})})).replace(MASK, "@")
