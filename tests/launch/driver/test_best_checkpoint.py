"""Which version is kept as the best, and that it stays when its checkpoint goes, and when the run is killed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.driver.best_checkpoint import BestCheckpoint, Chosen, chosen
from launch.driver.trained_judge import last_lines
from launch.setup.judge_source import find_judge, model_named
from learner import checkpoint
from tests.launch.setup.test_judge_source import saved


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def write(checkpoints: Path, version: int, kind: str = "model") -> Path:
    folder = saved(checkpoints / "policy", version, kind)
    (folder / "engine").mkdir()
    (folder / "engine" / "state").write_text("moments")
    (folder / kind / "weights").write_text(str(version))
    return folder


def names(checkpoints: Path) -> list[str]:
    return sorted(path.name for path in checkpoints.iterdir())


def test_it_is_kept_when_newer_checkpoints_take_its_place(checkpoints: Path) -> None:
    best = BestCheckpoint(checkpoints)
    first = write(checkpoints, 20)
    best.evaluated(20, 0.9, 128)
    write(checkpoints, 40)
    best.evaluated(40, 0.8, 128)
    shutil.rmtree(first)
    assert chosen(checkpoints) == Chosen(version=20, figure=0.9, rows=128)
    model = checkpoints.resolve() / "best-000020" / "model"
    assert (model / "weights").read_text() == "20"
    assert find_judge(str(checkpoints / "best")).model == model_named(str(checkpoints / "best")) == str(model)
    assert not (checkpoints / "best" / "engine").exists()
    assert (checkpoints / "best").readlink() == Path("best-000020"), "relative: a run's folder may be moved"
    assert names(checkpoints) == ["best", "best-000020", "policy"]


def test_a_version_that_was_trained_again_takes_the_place_of_itself(checkpoints: Path) -> None:
    for weights in ("first", "second", "third"):
        if (checkpoints / "policy").exists():
            shutil.rmtree(checkpoints / "policy")
        (write(checkpoints, 20) / "model" / "weights").write_text(weights)
        BestCheckpoint(checkpoints).evaluated(20, 0.9, 128)
        assert (checkpoints / "best" / "model" / "weights").read_text() == weights
        assert len(names(checkpoints)) == 3


# Dies before file-system call 0, 1, 2, ... of keeping version 40, each time in a fresh copy, until nothing is left to do.
KILLED = """
import os, shutil, sys
from pathlib import Path
from launch.driver.best_checkpoint import BestCheckpoint
prepared, tries = Path(sys.argv[1]), Path(sys.argv[2])
for calls in range(1000):
    copy = shutil.copytree(prepared, tries / f"{calls:03d}", symlinks=True)
    if (child := os.fork()) == 0:
        done = 0
        def before(event, arguments):
            global done
            if event.partition(".")[0] in ("os", "open", "shutil"):
                if done == calls:
                    os._exit(9)
                done += 1
        sys.addaudithook(before)
        BestCheckpoint(copy).evaluated(40, 0.95, 128)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


def test_a_kill_at_any_moment_leaves_the_old_best_or_the_new_one(checkpoints: Path, tmp_path: Path) -> None:
    best = BestCheckpoint(checkpoints)
    write(checkpoints, 20)
    best.evaluated(20, 0.9, 128)
    write(checkpoints, 40)
    tries = tmp_path / "tries"
    tries.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(checkpoints), str(tries)], check=True, timeout=60)
    kept = list[int]()
    for killed in sorted(tries.iterdir()):
        found = chosen(killed)
        assert found is not None, killed.name
        kept.append(found.version)
        assert (killed / "best" / "model" / "weights").read_text() == str(found.version)
        assert checkpoint.read(killed / "best").version == found.version
        BestCheckpoint(killed).evaluated(40, 0.95, 128)  # as the run that goes on does
        assert chosen(killed) == Chosen(version=40, figure=0.95, rows=128)
        assert (killed / "best" / "model" / "weights").read_text() == "40"
        assert len(names(killed)) == 3, "what the kill left is removed"
    assert kept == sorted(kept)
    assert kept.count(20) > 10
    assert kept.count(40) > 3


def test_of_equals_the_newer_is_better(checkpoints: Path) -> None:
    best = BestCheckpoint(checkpoints)
    for version in (20, 40):
        write(checkpoints, version)
        best.evaluated(version, 0.9, 128)
    assert chosen(checkpoints) == Chosen(version=40, figure=0.9, rows=128)


def test_a_version_is_kept_once_it_has_both(checkpoints: Path) -> None:
    best = BestCheckpoint(checkpoints)
    best.evaluated(20, 0.9, 128)
    assert chosen(checkpoints) is None
    folder = write(checkpoints, 20)
    best.look()
    assert chosen(checkpoints) == Chosen(version=20, figure=0.9, rows=128)
    assert (checkpoints / "best" / "model" / "weights").samefile(folder / "model" / "weights"), "no second copy on disk"


def test_a_resumed_run_goes_on_from_its_best(checkpoints: Path) -> None:
    write(checkpoints, 20)
    BestCheckpoint(checkpoints).evaluated(20, 0.9, 128)
    write(checkpoints, 40)
    BestCheckpoint(checkpoints).evaluated(40, 0.8, 128)
    assert chosen(checkpoints) == Chosen(version=20, figure=0.9, rows=128)


def test_a_policy_without_a_figure_is_not_chosen(checkpoints: Path) -> None:
    write(checkpoints, 20)
    BestCheckpoint(checkpoints).evaluated(20, None, 128)
    assert chosen(checkpoints) is None


def test_the_last_lines_name_it_where_it_is_not_the_last(checkpoints: Path) -> None:
    best = BestCheckpoint(checkpoints)
    for version, figure in ((20, 0.9), (40, 0.8)):
        write(checkpoints, version)
        best.evaluated(version, figure, 128)
    run = checkpoints.parent
    line = f"best       {checkpoints / 'best'} (step 20: 90.0% of 128 while it was trained)\n"
    assert last_lines(run, run / "judge").endswith(line)
    best.evaluated(40, 0.95, 128)
    assert "best " not in last_lines(run, run / "judge")


def test_adapters_are_kept_as_adapters(checkpoints: Path) -> None:
    write(checkpoints, 20, "adapter")
    BestCheckpoint(checkpoints).evaluated(20, 0.9, 128)
    assert (checkpoints / "best" / "adapter" / "weights").read_text() == "20"
    assert checkpoint.read(checkpoints / "best").version == 20
