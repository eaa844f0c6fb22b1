import json
from pathlib import Path

import pytest

from learner import checkpoint
from learner.checkpoint import CheckpointError, Record


def record(version: int, **changes: object) -> Record:
    fields: dict[str, object] = {"version": version, "entries": ("1-0", "2-0"), "ranks": 1, "zero_stage": 1}
    return Record(**fields | changes)  # type: ignore[arg-type]


def write(folder: Path, version: int, *, keep: int = 2) -> Path:
    path = checkpoint.begin(folder, version)
    (path / "model").mkdir()
    (path / "model" / "weights").write_text(f"version {version}")
    return checkpoint.commit(folder, record(version), keep=keep)


def test_the_newest_is_found_with_its_record(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "no such folder") is None
    for version in (9, 10):
        path = write(tmp_path, version)
    assert checkpoint.newest(tmp_path) == (path, record(10))
    assert (path / "model" / "weights").read_text() == "version 10"


def test_only_the_newest_k_are_kept(tmp_path: Path) -> None:
    for version in range(1, 6):
        write(tmp_path, version, keep=3)
    assert checkpoint.versions(tmp_path) == [3, 4, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["version-000003", "version-000004", "version-000005"]


def test_an_interrupted_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (checkpoint.begin(tmp_path, 2) / "half").write_text("half")
    assert checkpoint.versions(tmp_path) == [1]
    assert not (checkpoint.begin(tmp_path, 3) / "half").exists()
    assert not checkpoint.unfinished(tmp_path, 2).exists(), "cleared by the next writer"


def test_a_version_written_again_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = checkpoint.begin(tmp_path, 1)
    (path / "new").write_text("new")
    assert (checkpoint.commit(tmp_path, record(1), keep=1) / "new").exists()
    assert checkpoint.versions(tmp_path) == [1]


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = checkpoint._sync, Path.rename

    def watched_sync(path: Path) -> None:
        done.append(path.name)
        sync(path)

    def watched_rename(path: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(checkpoint, "_sync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    write(tmp_path, 1)
    before, after = done[: done.index("renamed")], done[done.index("renamed") + 1 :]
    assert {"weights", "model", "record.json", ".unfinished-000001"} <= set(before)
    assert after == [tmp_path.name], "the rename itself reaches the disk before the entries are acknowledged"


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1}', '["version"]', '{"version": 1, "entries": [], "color": 1}'])
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (write(tmp_path, 1) / "record.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"record\.json.*remove the folder"):
        checkpoint.newest(tmp_path)


def test_other_ranks_or_stage_cannot_resume(tmp_path: Path) -> None:
    record(1).require(ranks=1, zero_stage=1, folder=tmp_path)
    with pytest.raises(CheckpointError, match="by 1 ranks at ZeRO stage 1 and cannot be resumed by 2 ranks at stage 3"):
        record(1).require(ranks=2, zero_stage=3, folder=tmp_path)


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    fields = json.loads((write(tmp_path, 4) / "record.json").read_text())
    assert fields == {"version": 4, "entries": ["1-0", "2-0"], "ranks": 1, "zero_stage": 1}
