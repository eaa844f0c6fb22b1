"""A checkpoint is whole or not there; one that changed since is set aside, whichever rank reads the changed file."""

import itertools
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xxhash

from learner import checkpoint, seals
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


def test_a_link_names_the_newest_and_never_one_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link, removed = tmp_path / "policy", tmp_path / "latest", list[str]()
    mark = checkpoint._mark_for_removal

    def removing(path: Path) -> None:
        assert (link / "record.json").is_file()
        assert not link.samefile(path)
        removed.append(path.name)
        mark(path)

    monkeypatch.setattr(checkpoint, "_mark_for_removal", removing)
    for version in (1, 2):
        checkpoint.begin(folder, version)
        checkpoint.commit(folder, record(version), keep=1, link=link)
        assert link.readlink() == Path(f"policy/version-00000{version}"), "relative: a run's folder may be moved"
    assert removed == ["version-000001"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "policy"]


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
    sync, rename = seals.sync, Path.rename

    def watched_sync(path: Path) -> None:
        done.append(path.name)
        sync(path)

    def watched_rename(path: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(path, target)

    for module in (checkpoint, seals):
        monkeypatch.setattr(module, "sync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    write(tmp_path, 1)
    before, after = done[: done.index("renamed")], done[done.index("renamed") + 1 :]
    assert {"weights", "model", "record.json", ".unfinished-000001"} <= set(before)
    assert after == [tmp_path.name], "the rename itself reaches the disk before the entries are acknowledged"


BAD_RECORDS = ["", "{}", '{"version": 1}', '["version"]', '{"version": 1, "entries": [], "color": 1, "files": {}}', "\udcff"]


@pytest.mark.parametrize("text", BAD_RECORDS)
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (write(tmp_path, 1) / "record.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"record\.json cannot be read"):
        checkpoint.newest(tmp_path)


# ---- the engine of the newest alone -----------------------------------------------------------------------------------


def write_with_engine(folder: Path, version: int, *, keep: int = 3) -> Path:
    path = checkpoint.begin(folder, version)
    for name in ("model/weights", "engine/rank_0", "engine/rank_1"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(f"version {version}")
    return checkpoint.commit(folder, record(version), keep=keep)


def test_of_older_ones_the_weights_alone_are_kept(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write_with_engine(tmp_path, version)
    assert checkpoint.file_names(tmp_path / "version-000001") == ["model/weights", "record.json"]
    assert checkpoint.file_names(tmp_path / "version-000003") == [
        "engine/rank_0",
        "engine/rank_1",
        "model/weights",
        "record.json",
    ]
    assert [checkpoint.read(checkpoint.at(tmp_path, version)).engine for version in (1, 2, 3)] == [False, False, True]
    flip(tmp_path / "version-000003")
    newest = checkpoint.usable(tmp_path)
    assert newest is not None
    assert newest.record == record(2, engine=False)
    flip(tmp_path / "version-000002")
    newest = checkpoint.usable(tmp_path)
    assert newest is not None
    assert newest.record == record(1, engine=False), "what is left of it is still verified"


def test_killed_at_any_instant_of_removing_an_engine_both_checkpoints_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in itertools.count():
        folder = tmp_path / str(attempt)
        write_with_engine(folder, 1)
        with monkeypatch.context() as patch:
            ended = killed_after(attempt, patch, lambda folder=folder: write_with_engine(folder, 2))  # type: ignore[misc]
        if checkpoint.versions(folder) == [1, 2]:
            flip(folder / "version-000002")
        newest = checkpoint.usable(folder)
        assert newest is not None, "the older one can be used, whether or not its engine is half removed"
        assert newest.record == record(1, engine=newest.record.engine)
        write_with_engine(folder, 3)
        assert not list(folder.glob(".unfinished-*"))
        assert not (folder / "version-000001" / "engine").exists()
        if ended:
            break
    assert attempt > 12, "the test must have found the places to kill at"


def test_one_that_another_version_of_the_project_sealed_is_named_and_not_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    fields = json.loads((path / "record.json").read_text())
    del fields["hash"]
    (path / "record.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"its files are sealed by CRC-32, here by xxh3-64; go on with that version"):
        checkpoint.usable(tmp_path)
    assert path.exists()


# ---- what has changed since it was written ---------------------------------------------------------------------------


def shorten(path: Path) -> None:
    (path / "model" / "weights").write_text("version")


def flip(path: Path) -> None:
    (path / "model" / "weights").write_text("Version 3")


def lose(path: Path) -> None:
    (path / "model" / "weights").unlink()


def garble(path: Path) -> None:
    (path / "record.json").write_text('{"version": 3')


def lose_the_record(path: Path) -> None:
    (path / "record.json").unlink()


UNKNOWN = "an unknown number of"
DAMAGES = [(shorten, "2"), (flip, "2"), (lose, "2"), (garble, UNKNOWN), (lose_the_record, UNKNOWN)]


@pytest.mark.parametrize(("damage", "lost"), DAMAGES)
def test_a_corrupt_one_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, damage: Callable[[Path], None], lost: str
) -> None:
    for version in (1, 2, 3):
        path = write(tmp_path, version, keep=3)
    damage(path)
    left = sorted(file.name for file in path.rglob("*"))
    newest = checkpoint.usable(tmp_path)
    assert newest is not None
    assert (newest.path, newest.record) == (tmp_path / "version-000002", record(2))
    (sentence,) = newest.corrupt
    for words in (str(path), "set aside as .corrupt-version-000003", f"gradient of its {lost} entries"):
        assert words in sentence
    assert checkpoint.versions(tmp_path) == [1, 2]
    assert sorted(file.name for file in (tmp_path / ".corrupt-version-000003").rglob("*")) == left, "nothing is removed"
    assert checkpoint.usable(tmp_path) == replace(newest, corrupt=()), "it is reported once"


def rename_in_record(path: Path, name: object, sealed: object) -> None:
    fields = json.loads((path / "record.json").read_text())
    fields["files"] = {name: sealed}
    (path / "record.json").write_text(json.dumps(fields))


@pytest.mark.parametrize("name", ["/dev/zero", "../../endless", "model/../../x", "/etc/hostname"])
def test_a_record_that_leads_out_of_its_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    """The first of them has no end: its size is compared before it is read, if it were read at all."""
    rename_in_record(write(tmp_path, 1), name, [9, 1])
    with pytest.raises(CheckpointError, match=r"none of its 1 checkpoints can be used .*is not in its folder"):
        checkpoint.usable(tmp_path)


@pytest.mark.parametrize("sealed", [None, [9], [9, "1"], {"9": 1}])
def test_a_seal_that_is_none_is_named(tmp_path: Path, sealed: object) -> None:
    rename_in_record(write(tmp_path, 1), "model/weights", sealed)
    with pytest.raises(CheckpointError, match=r"the seal of 'model/weights' is not \[size, checksum\]"):
        checkpoint.usable(tmp_path)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    weights = path / "model" / "weights"
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(CheckpointError, match="is no regular file"):
        checkpoint.usable(tmp_path)
    path = write(tmp_path, 2)
    weights = path / "model" / "weights"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="is no regular file"):
        checkpoint.usable(tmp_path)


def test_a_file_of_another_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, 1)
    os.truncate(path / "model" / "weights", 1 << 40)
    monkeypatch.setattr(seals, "_seal", lambda path: pytest.fail("it was read"))
    assert "1099511627776 bytes, 9 when written" in seals.mismatch(path, {"model/weights": [9, 1]})


@pytest.mark.parametrize("name", ["engine/mp_rank_00_model_states.pt", "model/pytorch_model.bin"])
def test_a_file_that_the_record_does_not_name_is_refused_and_nothing_is_set_aside(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, 1)
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to("/etc/hostname")
    (path / ".nfs000001").touch()  # as NFS keeps a file that was removed while it was open
    with pytest.raises(CheckpointError, match=rf"holds '{name}', which its record.json does not name.*move it away"):
        checkpoint.usable(tmp_path)
    (path / name).unlink()
    assert checkpoint.usable(tmp_path) is not None


def test_when_none_can_be_used_it_is_an_error_and_all_are_kept(tmp_path: Path) -> None:
    assert checkpoint.usable(tmp_path) is None
    for version in (1, 2):
        flip(write(tmp_path, version))
    with pytest.raises(CheckpointError, match=r"none of its 2 checkpoints can be used .*000002.*000001.*start a new run"):
        checkpoint.usable(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".corrupt-version-000001", ".corrupt-version-000002"]


def test_a_version_can_break_twice(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for _ in range(3):
        flip(write(tmp_path, 2))
        newest = checkpoint.usable(tmp_path)
        assert newest is not None
        assert newest.record.version == 1
    assert len(list(tmp_path.glob(".corrupt-version-000002*"))) == 3


# ---- killed at any instant -------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("versions", [(1, 2), (1, 2, 3)])
def test_killed_at_any_instant_of_writing_there_is_one_to_resume_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: tuple[int, ...]
) -> None:
    """The last of `versions` is written with a kill before each change of the disk, until one attempt ends."""
    for attempt in itertools.count():
        folder = tmp_path / str(attempt)
        for version in versions[:-1]:
            write(folder, version)
        with monkeypatch.context() as patch:
            ended = killed_after(attempt, patch, lambda folder=folder: write(folder, versions[-1]))  # type: ignore[misc]
        newest = checkpoint.usable(folder)
        assert newest is not None
        for path in folder.glob("version-*"):  # what is not whole has no name that counts
            assert seals.mismatch(path, checkpoint._read(path)[1]) == ""
        assert newest.record.version in versions[-2:]
        write(folder, versions[-1] + 1)
        assert not list(folder.glob(".unfinished-*")), "the next writer removes it"
        if ended:
            break
    assert attempt > 8, "the test must have found the places to kill at"


def killed_after(changes: int, patch: pytest.MonkeyPatch, action: Callable[[], object]) -> bool:
    """Return whether `action` ended before its change number `changes` of the disk; other threads go on."""
    left, acting = [changes], threading.get_ident()

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            if threading.get_ident() == acting:
                if not left[0]:
                    raise Killed
                left[0] -= 1
            return change(*args, **options)

        return wrapped

    for place, name in ((Path, "mkdir"), (Path, "rename"), (Path, "write_text"), (os, "fsync"), (os, "unlink"), (os, "rmdir")):
        patch.setattr(place, name, counted(getattr(place, name)))
    try:
        action()
    except Killed:
        return False
    return True


def test_other_ranks_or_stage_cannot_resume(tmp_path: Path) -> None:
    record(1).require(ranks=1, zero_stage=1, lora_rank=0, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"by 1 ranks at ZeRO stage 1 .*cannot be resumed by 2 ranks at stage 3"):
        record(1).require(ranks=2, zero_stage=3, lora_rank=0, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"with learner.lora_rank 0 and cannot be resumed by .* with 8: set"):
        record(1).require(ranks=1, zero_stage=1, lora_rank=8, folder=tmp_path)


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    fields = json.loads((write(tmp_path, 4) / "record.json").read_text())
    files = {"model/weights": [9, xxhash.xxh3_64_intdigest(b"version 4")]}
    what = {"version": 4, "entries": ["1-0", "2-0"], "ranks": 1, "zero_stage": 1, "lora_rank": 0, "engine": True}
    assert fields == what | {"hash": "xxh3-64", "files": files}
