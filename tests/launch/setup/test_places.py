"""Temporary and cached files go where they can be written, and nobody else can read them."""

import fcntl
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.setup import places
from launch.setup.places import HF_WRITTEN, HOME_FOLDERS, LONGEST_ROOT, Scratch, choose_caches, private_files, scratch_root

VARIABLES = ("TMPDIR", "HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "XDG_RUNTIME_DIR", *HOME_FOLDERS, *HF_WRITTEN)
RAY_SOCKET = "r/session_2026-12-31_23-59-59_123456_4194304/sockets/plasma_store"


@pytest.fixture(autouse=True)
def _no_variable_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(places, "_chosen", {})
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def read_only(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let nothing be written below some folders: for the superuser modes do not do that."""
    make = os.mkdir

    def refuse(path: str, *arguments: object, **options: object) -> None:
        if any(Path(path).is_relative_to(folder) for folder in folders):
            raise OSError(30, "Read-only file system")
        make(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", refuse)


# ---- scratch ---------------------------------------------------------------------------------------------------------


def test_the_scratch_folder_is_private_serves_as_tmpdir_and_goes(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    scratch, umask = Scratch(), os.umask(0)
    try:
        scratch.make()
    finally:
        os.umask(umask)
    assert scratch.folder.parent == short
    assert scratch.folder.stat().st_mode & 0o777 == 0o700
    scratch.use()
    assert Path(tempfile.mkdtemp()).parent == scratch.folder
    assert os.environ["TMPDIR"] == str(scratch.folder)
    scratch.remove()
    scratch.remove()
    assert os.environ["TMPDIR"] == str(short)
    assert tempfile.gettempdir() == str(short)
    assert list(short.iterdir()) == []


def test_a_tmpdir_that_is_too_long_for_sockets_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("batch-system-" * 8)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    scratch = Scratch()
    scratch.make()
    assert len(str(scratch.folder / RAY_SOCKET)) <= 107
    scratch.remove()
    longest = Path("/" + "x" * (LONGEST_ROOT - 1)) / f"{places.PREFIX}12345678"
    assert len(str(longest / RAY_SOCKET)) <= 107


def test_where_nothing_can_be_written_each_place_is_named(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/a/long/path/which/a/batch/system/has/made")
    monkeypatch.setattr(places, "SCRATCH_ROOTS", (str(short), "/proc", "/no-such-folder"))
    read_only(monkeypatch, short)
    with pytest.raises(ConfigError, match=r"batch.*over 26 bytes.*Read-only file system.*/proc: .*/no-such.*: set TMPDIR"):
        scratch_root()


def test_what_a_killed_driver_left_behind_is_removed_and_nothing_else(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    killed, living, other = Scratch(), Scratch(), short / f"{places.DRAFT}of-a-test"
    killed.make()
    living.make()
    other.mkdir()
    os.close(killed._lock)  # as at the end of its process
    (short / f"{places.PREFIX}link").symlink_to(living.folder)
    new = Scratch()
    new.make()
    assert not killed.folder.exists()
    assert living.folder.exists()
    assert other.exists()
    for scratch in (new, living):
        scratch.remove()


def test_what_another_machine_may_hold_locked_is_left_alone(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TMPDIR is on a network, and a lock is known to its own machine only."""
    monkeypatch.setenv("TMPDIR", str(short))
    theirs, boot = Scratch(), short / "boot_id"
    boot.write_text("another machine\n")
    with monkeypatch.context() as there:
        there.setattr(places, "_BOOT_ID", boot, raising=False)
        theirs.make()
    os.close(theirs._lock)  # as it looks from here
    new, unknown = Scratch(), Scratch()
    new.make()
    assert theirs.folder.exists()
    monkeypatch.setattr(places, "_BOOT_ID", short / "not-there", raising=False)
    unknown.make()
    assert theirs.folder.exists()
    for scratch in (new, unknown):
        scratch.remove()


def test_a_folder_that_cannot_be_locked_is_not_used_or_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system: flock fails there with EBADF or ENOLCK."""
    monkeypatch.setenv("TMPDIR", str(short))
    flock = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(short):
            raise OSError(37, "No locks available")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)
    scratch = Scratch()
    scratch.make()
    assert scratch.folder.parent != short
    scratch.remove()
    monkeypatch.setattr(places, "scratch_root", lambda: short)  # it failed between two moments
    with pytest.raises(ConfigError, match=r"no folder for temporary files in .* \(No locks available\): set TMPDIR"):
        scratch.make()
    assert list(short.iterdir()) == []


# ---- caches ----------------------------------------------------------------------------------------------------------


def test_a_home_that_can_be_written_stays(tmp_path: Path) -> None:
    choose_caches(tmp_path / "cache")
    assert dict(places.chosen_variables()) == {}
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "home" / ".cache" / "torchinductor")
    assert list((tmp_path / "home").iterdir()) == [], "it was tried, and nothing stayed"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("home", ["/nonexistent", None])
def test_a_home_that_is_not_there_is_replaced(home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user may be a number without a name, and so without a home."""
    if home is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    else:
        monkeypatch.setenv("HOME", home)
    choose_caches(tmp_path / "cache")
    assert os.path.expanduser("~/.anything") == str(tmp_path / "cache" / ".anything")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_written_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "home" / ".cache" / "huggingface"
    models.mkdir(parents=True)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/set/by/a/person")
    read_only(monkeypatch, tmp_path / "home")
    choose_caches(tmp_path / "cache")
    assert os.environ["HOME"] == str(tmp_path / "home")
    assert os.environ["HF_HOME"] == str(models), "its models are read"
    assert os.environ["TRITON_CACHE_DIR"] == "/set/by/a/person"
    written = {*HOME_FOLDERS, *HF_WRITTEN, "TORCHINDUCTOR_CACHE_DIR"} - {"TRITON_CACHE_DIR"}
    for variable in written:
        assert Path(os.environ[variable]).is_relative_to(tmp_path / "cache"), variable
    assert set(places.chosen_variables()) == {*written, "HF_HOME"}


@pytest.mark.parametrize("is_set", [True, False])
def test_models_in_a_folder_of_its_own_that_is_read_only_are_read_there_and_nothing_is_written(
    is_set: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared" if is_set else tmp_path / "home" / ".cache" / "huggingface"
    shared.mkdir(parents=True)
    if is_set:
        monkeypatch.setenv("HF_HOME", str(shared))
    monkeypatch.setenv("HF_XET_CACHE", "/set/by/a/person")
    choose_caches(tmp_path / "cache")
    assert dict(places.chosen_variables()) == {}, "it can be written"
    read_only(monkeypatch, shared)
    choose_caches(tmp_path / "cache")
    assert os.environ.get("HF_HOME") == (str(shared) if is_set else None)
    assert os.environ["HF_XET_CACHE"] == "/set/by/a/person"
    moved = set(HF_WRITTEN) - {"HF_XET_CACHE"}
    assert set(places.chosen_variables()) >= moved
    for variable in moved:
        assert Path(os.environ[variable]).is_relative_to(tmp_path / "cache"), variable


def test_a_cache_folder_that_a_person_has_set_stays_or_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    choose_caches(tmp_path / "cache")
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "mine")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "mine" / "torchinductor")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/mine")
    with pytest.raises(ConfigError, match=r"XDG_CACHE_HOME=/proc/mine cannot be written \(.*\): correct it, or unset it"):
        choose_caches(tmp_path / "cache")


def test_where_no_cache_can_be_written_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=r"no folder for cached files: .*Read-only file system.*give a run.dir"):
        choose_caches(tmp_path / "cache")


# ---- modes -----------------------------------------------------------------------------------------------------------


def test_private_files_are_the_users_alone_from_the_first_byte(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with private_files():
            (tmp_path / "file").touch()
            (tmp_path / "folder").mkdir()
        (tmp_path / "after").touch()
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.name != "home"}
    assert modes == {"file": 0o600, "folder": 0o700, "after": 0o666}
