"""The run folder is the user's alone, there is room on the disk for checkpoints, and no link where a run adds to its files."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from configs.load import ConfigError, load
from launch.setup.model_files import TINY
from launch.setup.run_folder import create_run_folder, find_run_folder

usage = namedtuple("usage", "total used free")


def test_a_full_disk_is_named_in_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(ConfigError, match=r"run.dir = .*: 0\.0 GiB are free, 0\.\d are needed for checkpoints; free some"):
        create_run_folder(load("tiny", [f"run.dir={tmp_path / 'runs'}", "run.id=x"]), "tiny", str(TINY))
    assert not (tmp_path / "runs" / "x").exists()


@pytest.mark.parametrize(("meta_rm", "gib"), [("true", 518.7), ("false", 259.4)])
def test_a_hub_model_needs_room_too(meta_rm: str, gib: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8.19e9 parameters x (16 bytes x (the newest and one being written) + 2 bytes x 1 older), for policy and meta-RM."""
    config = load("qwen3-8b", [f"run.dir={tmp_path / 'runs'}", "run.id=x", f"meta_rm.enabled={meta_rm}"])
    need = 8190735360 * (16 * 2 + 2) * (2 if meta_rm == "true" else 1)
    assert need / 2**30 == pytest.approx(gib, abs=0.05)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * need, need, int(need) - 1))
    with pytest.raises(ConfigError, match=rf"{gib} are needed for checkpoints; free some, or lower learner.keep_checkpoints"):
        create_run_folder(config, "qwen3-8b", config.model.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * need, need, int(need)))
    assert create_run_folder(config, "qwen3-8b", config.model.path).is_dir()


def test_the_run_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        folder = create_run_folder(load("tiny", [f"run.dir={tmp_path / 'runs'}", "run.id=x"]), "tiny", str(TINY))
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_quota_is_named_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room on the disk, and folders can be made."""

    def refuse(descriptor: int) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ConfigError, match=r"run.dir = .*/x cannot be written: Disk quota exceeded"):
        create_run_folder(load("tiny", [f"run.dir={tmp_path / 'runs'}", "run.id=x"]), "tiny", str(TINY))
    assert not (tmp_path / "runs" / "x").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "votes/after.jsonl", "cold_start/sampled.jsonl", "stacks/driver.txt"])
def test_a_run_folder_with_a_link_in_the_place_of_a_file_is_refused_before_anything_starts(name: str, tmp_path: Path) -> None:
    config = load("tiny", [f"run.dir={tmp_path}", "run.id=x"])
    folder = create_run_folder(config, "tiny", str(TINY))
    for part in ("votes", "cold_start", "stacks", "checkpoints/policy/version-000001/model"):
        (folder / part).mkdir(parents=True)
    (folder / "cold_start" / "model").symlink_to("../checkpoints/policy/version-000001/model")  # ours
    assert find_run_folder(config) == folder
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=rf"{name} is a link, and a run's files are not written through links: remove it"):
        find_run_folder(config)
