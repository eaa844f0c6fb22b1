"""A whole run of which a part always fails: it ends with that part's own error. All the ways: cluster/test_failing_parts.py."""

import re
import time
from pathlib import Path

import pytest

from tests.launch.whole_run import SMALL, finish, mentioning, start

pytestmark = pytest.mark.full


def test_a_learner_that_can_never_save_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    more = ("meta_rm.enabled=false", "eval.every=0", "grpo.steps=20", "learner.checkpoint_every=2", "cluster.restarts=1")
    process, folder = start(tmp_path, "unsaved", *SMALL, *more), tmp_path / "unsaved"
    deadline = time.monotonic() + 120
    while not (folder / "stacks").exists():  # the stage starts: its learner needs many seconds more
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "policy").write_text("where the checkpoints should go")
    ended = finish(process, folder, timeout_s=400)
    assert ended.status == 1, ended.output
    last = ended.output.strip().splitlines()[-1]
    assert re.match(
        r"failed: the GRPO learner failed 2 times in a row and got no further in between \(cluster.restarts = 1\); the last"
        r" time: \w+Error: .*checkpoints/policy",
        last,
    ), ended.output
    assert ended.output.count("the GRPO learner died") == 1
    assert "Traceback" not in ended.output
    assert "try_saving" in (folder / "failure.txt").read_text(), "where it failed: at its start, before a step is taken"
    assert ended.summary["finished"] == "failed"
    assert not mentioning(str(folder))
