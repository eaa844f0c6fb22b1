"""The folder of a run: made, found again for a resume, and locked against a second driver."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from configs.load import MASK, ConfigError, dump
from configs.load import load as load_config
from configs.schema import Config
from launch.setup import resource_plan
from launch.setup.model_files import architecture


def create_run_folder(config: Config, preset: str, model: str) -> Path:
    """Make the run folder, or take up one whose cold start was not followed by training yet. ConfigError when it cannot
    be taken up, cannot be written or has no room for the checkpoints."""
    root = Path(config.run.dir).expanduser()
    if not root.is_absolute():
        # Inside `ray job submit` the working folder is Ray's throw-away copy.
        root = (Path.home() if "_ray_pkg_" in str(Path.cwd()) else Path.cwd()) / root
    folder = root / (config.run.id or f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}-s{config.run.seed}")
    if can_resume_cold_start(folder):
        if _content(load_config(folder / "config.yaml")) != _content(config):
            raise ConfigError(f"run.id: {folder} was begun with another config; give that one, or choose another run.id")
        return folder
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"run.id: {folder} exists; choose another run.id or remove the folder") from None
    except OSError as error:
        raise ConfigError(f"run.dir = {config.run.dir!r}: cannot make {folder}: {error.strerror}") from error
    arch = architecture(model)
    if arch is not None:
        # a checkpoint: weights in the model's format, and AdamW's float32 weights and two moments
        need = (
            (config.learner.keep_checkpoints + 1)
            * 16
            * resource_plan.parameters_of(arch)
            * (2 if config.meta_rm.enabled else 1)
        )
        free = shutil.disk_usage(folder).free
        if need > free:
            folder.rmdir()
            raise ConfigError(
                f"run.dir = {config.run.dir!r}: {free / resource_plan.GIB:.1f} GiB are free,"
                f" {need / resource_plan.GIB:.1f} are needed for checkpoints; free some, or lower learner.keep_checkpoints"
            )
    return folder


def find_run_folder(config: Config) -> Path:
    """The folder of the run that the config names. ConfigError when there is none that could go on."""
    folder = Path(config.run.dir).expanduser() / config.run.id
    if not (folder / "checkpoints").exists() and not (folder / "redis").exists() and not (folder / "cold_start").exists():
        raise ConfigError(f"--resume {folder}: nothing there to go on from; start it again under another run.id")
    return folder


def can_resume_cold_start(folder: Path) -> bool:
    """Whether a folder holds a run that ended in or right behind its cold start: that part can be taken up again."""
    return (folder / "cold_start").is_dir() and not (folder / "checkpoints").exists()


def lock_run_folder(folder: Path) -> int:
    """Keep other drivers out of a run's folder, until the descriptor is closed or this process ends. ConfigError when one is
    at work there."""
    lock = os.open(folder / "driver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(f"{folder}: the run goes on, another driver is at work there (see launch/status.py)") from None
    return lock


def _content(config: Config) -> str:
    """A config without the name of its run (one that was named by the clock is taken up by giving that name), and without
    a password, which the folder's copy does not have."""
    return dump(config.model_copy(update={"run": config.run.model_copy(update={"id": "", "dir": ""})})).replace(MASK, "@")
