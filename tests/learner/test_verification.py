"""Each rank reads its share of a checkpoint before a resume: ranks as threads, the files real, what each reads counted."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from learner import checkpoint, seals, verification
from learner.checkpoint import CheckpointError, Record

T = TypeVar("T")
WORLD = 3
FILES = {f"engine/rank_{rank}": 1000 for rank in range(WORLD)} | {f"model/shard-{number}": 2000 for number in range(4)}


class ThreadRanks:
    """Ranks of one process; each is a thread of the rank's number as its name."""

    def __init__(self, world: int) -> None:
        self.world = world
        self._barrier = threading.Barrier(world, timeout=20)
        self._payloads = [b""] * world

    @property
    def rank(self) -> int:
        return int(threading.current_thread().name)

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        self._payloads[self.rank] = payload
        self._barrier.wait()
        payloads = list(self._payloads)
        self._barrier.wait()
        return payloads

    def broadcast_bytes(self, payload: bytes) -> bytes:
        return self.gather_bytes(payload)[0]

    def run(self, action: Callable[[], T]) -> list[T]:
        """Run `action` on all ranks; return the results in the order of ranks, or raise rank 0's error."""
        results: dict[int, Any] = {}

        def on_rank() -> None:
            try:
                results[self.rank] = action()
            except BaseException as error:
                results[self.rank] = error
                self._barrier.abort()

        threads = [threading.Thread(target=on_rank, name=str(rank)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        return [results[rank] for rank in range(self.world)]


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Bytes of files that each thread has read for their checksums."""
    counts: Counter[str] = Counter()
    seal = seals._seal

    def counted(path: Path) -> list[int]:
        sealed = seal(path)
        counts[threading.current_thread().name] += sealed[0]
        return sealed

    monkeypatch.setattr(seals, "_seal", counted)
    return counts


def write(folder: Path, version: int) -> Path:
    path = checkpoint.begin(folder, version)
    for name, size in FILES.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(f"{version}{name}".encode().ljust(size, b"x"))
    return checkpoint.commit(folder, Record(version=version, entries=("1-0", "2-0"), ranks=WORLD, zero_stage=1), keep=3)


def resume(folder: Path, world: int = WORLD) -> checkpoint.Usable | None:
    ranks = ThreadRanks(world)
    first, *others = ranks.run(lambda: verification.usable(ranks, folder))
    assert others == [None] * (world - 1)
    return first


def test_each_rank_reads_its_share_when_it_resumes(tmp_path: Path, read_bytes: Counter[str]) -> None:
    write(tmp_path, 1)
    read_bytes.clear()
    newest = resume(tmp_path)
    assert newest is not None
    assert newest.record.version == 1
    assert sum(read_bytes.values()) == sum(FILES.values()), "each file once"
    assert read_bytes == {"0": 5000, "1": 3000, "2": 3000}
    assert resume(tmp_path, world=1) == newest == checkpoint.usable(tmp_path)


def flip(path: Path) -> None:
    path.write_bytes(b"y" + path.read_bytes()[1:])


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, shorten, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_found_whichever_rank_reads_it(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    for version in (1, 2):
        path = write(tmp_path, version)
    damage(path / name)
    newest = resume(tmp_path)
    assert newest is not None
    assert newest.record.version == 1
    (sentence,) = newest.corrupt
    assert name in sentence
    assert "set aside as .corrupt-version-000002; the gradient of its 2 entries is lost" in sentence
    assert checkpoint.versions(tmp_path) == [1]


def test_a_record_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    for version in (1, 2):
        path = write(tmp_path, version)
    (path / "record.json").write_text("{")
    newest = resume(tmp_path)
    assert newest is not None
    assert newest.record.version == 1


def test_no_checkpoint_is_none_and_no_usable_one_is_an_error(tmp_path: Path) -> None:
    assert resume(tmp_path) is None
    flip(write(tmp_path, 1) / "model" / "shard-3")
    with pytest.raises(CheckpointError, match=r"none of its 1 checkpoints can be used .*shard-3 is not what was written"):
        resume(tmp_path)
