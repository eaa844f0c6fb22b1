"""Whole runs where no place is as usual: a home that cannot be written or is not there, a TMPDIR too long for sockets, little
shared memory, a run folder whose name needs quoting, no UTF-8 locale, another working folder; also as a Ray job.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.cluster.ray_head import started
from tests.launch.cluster.test_ray_job import submit
from tests.launch.whole_run import ROOT, SMALL, Ended, environment, finish, mentioning

pytestmark = pytest.mark.full

SHORT = (*SMALL, "grpo.steps=1", "eval.every=0", "data.heldout_limit=4", "meta_rm.batch=8")
FOLDER = 'it\'s a "run" folder, 汉字'
# In a mount namespace: 64 MB of shared memory, and a home that is read-only even for the superuser.
NAMESPACE = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && mount -t tmpfs -o ro tmpfs "$HOME" && exec "$@"'
UNSHARE = ("unshare", "--mount", "sh", "-c", NAMESPACE, "sh")


def can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def long_tmpdir(where: Path) -> Path:
    folder = where / ("as-a-batch-system-makes-them-" * 4)
    folder.mkdir()
    return folder


def test_a_run_in_such_places_ends_well(tmp_path: Path) -> None:
    if not can_unshare():
        pytest.skip("mounts need the superuser, and a kernel that lets it")
    home, tmpdir, runs = tmp_path / "home", long_tmpdir(tmp_path), tmp_path / FOLDER
    home.mkdir()
    env = environment(HOME=str(home), TMPDIR=str(tmpdir), LANG="C", LC_ALL="C")
    env = {name: value for name, value in env.items() if not name.startswith(("XDG_", "PYTHONUTF8", "PYTHONIOENCODING"))}
    command = [sys.executable, str(ROOT / "launch" / "run.py"), "--config", "tiny", f"run.dir={runs}", "run.id=hostile", *SHORT]
    process = subprocess.Popen(
        [*UNSHARE, *command], cwd="/", env=env, text=True, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    ended = finish(process, runs / "hostile")
    assert ended.status == 0, ended.output
    assert ended.summary["finished"] == "completed"
    assert (ended.folder / "report.html").is_file()
    assert list(tmpdir.iterdir()) == []
    assert (runs / ".cache").is_dir(), "the caches"
    assert not mentioning(str(ended.folder))


def test_a_ray_job_in_such_places_ends_well(tmp_path: Path) -> None:
    tmpdir, runs = long_tmpdir(tmp_path), tmp_path / FOLDER
    env = {"HOME": "/nonexistent", "TMPDIR": str(tmpdir), "LANG": "C", "LC_ALL": "C"}
    with started() as head:
        said, _ = submit(head, runs, "job-hostile", *SHORT, **env).communicate(timeout=900)
    assert "succeeded" in said, said
    ended = Ended(status=0, output=said, folder=runs / "job-hostile")
    assert ended.summary["finished"] == "completed"
    assert list(tmpdir.iterdir()) == []
    assert not os.path.lexists("/nonexistent")
