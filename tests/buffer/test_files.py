"""Files of a run folder are whole, private, and never written through a link."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buffer import files
from launch.monitoring import jsonl_log
from launch.monitoring.stacks import dump_on_signal
from launch.monitoring.tracker import METRICS_FILE, Tracker


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_they_are_their_users_alone_whatever_the_umask_says(tmp_path: Path) -> None:
    files.write(tmp_path / "whole", "text é\n")
    with files.open_to_append(tmp_path / "log") as log:
        log.write("é\n")
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    assert (tmp_path / "whole").read_text(encoding="utf-8") == "text é\n"


def test_a_file_that_others_could_read_is_theirs_no_longer(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("old")
    file.chmod(0o644)
    files.write(file, b"new")
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's outside of the run folder."""
    file = tmp_path / "authorized_keys"
    file.write_text("ssh-ed25519 mine\n")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder that somebody else has made."""
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_a_link_in_the_place_of_a_whole_file_is_replaced(folder: Path, secret: Path) -> None:
    (folder / "report.html").symlink_to(secret)
    files.write(folder / "report.html", "page")
    assert secret.read_text() == "ssh-ed25519 mine\n"
    assert not (folder / "report.html").is_symlink()
    assert (folder / "report.html").read_text() == "page"
    assert [path.name for path in folder.iterdir()] == ["report.html"]


APPENDS: dict[str, Callable[[Path], object]] = {
    "metrics.jsonl": lambda file: Tracker(file.parent, "x", {}, "p", "disabled"),
    "evaluations.jsonl": lambda file: jsonl_log.append(file, [{"a": 1}]),
    "driver.txt": dump_on_signal,
    "torn.jsonl": jsonl_log.repair,
    "new": files.open_to_append,
}


@pytest.mark.parametrize("name", APPENDS)
def test_nothing_is_added_through_a_link(name: str, folder: Path, secret: Path) -> None:
    secret.write_text("ssh-ed25519 mine")  # without a line's end it looks torn
    (folder / name).symlink_to(secret)
    with pytest.raises(files.LinkError, match=rf"{name} is a link, and a run's files are not written through links: remove it"):
        APPENDS[name](folder / name)
    assert secret.read_text() == "ssh-ed25519 mine"


def test_a_link_to_nothing_makes_no_file_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / METRICS_FILE).symlink_to(tmp_path / "made")
    with pytest.raises(files.LinkError):
        files.open_to_append(folder / METRICS_FILE)
    assert not (tmp_path / "made").exists()


def test_a_write_that_fails_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(folder / "summary.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(folder / "summary.json", "new")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("summary.json", "old")]


ROOT = Path(__file__).resolve().parents[2]
WRITES = re.compile(r"\.write_(?:text|bytes)\(|open\([^()]*\"[wax][bt]?\"|os\.truncate\(")
# They write into memory, into a folder that they have made themselves a moment before, or into one that is no run's.
OTHERS = {
    "actors/vllm_adapters.py",
    "actors/vllm_shards.py",
    "buffer/files.py",
    "buffer/server.py",
    "buffer/server_folder.py",
    "launch/dev/tiny_base.py",
    "learner/checkpoint.py",
    "learner/seals.py",
}


def test_whatever_writes_a_file_does_it_here() -> None:
    code = (path for room in ("actors", "buffer", "launch", "learner") for path in (ROOT / room).rglob("*.py"))
    writers = {str(path.relative_to(ROOT)) for path in code if WRITES.search(path.read_text(encoding="utf-8"))}
    assert writers <= OTHERS, "use buffer.files, which follows no link"
