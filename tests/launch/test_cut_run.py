"""A whole run whose engine is cut over two processes: on GPUs `rollout.tensor_parallel` gives each of them a card."""

from pathlib import Path

import pytest

from tests.launch.whole_run import SMALL, await_end_of_all, run

pytestmark = [pytest.mark.slow, pytest.mark.full]


def test_a_run_with_an_engine_of_two_processes_goes_from_start_to_end(tmp_path: Path) -> None:
    """The judgements of the end are asked at the last version, so both processes have taken their shards of it, and each pull's
    probe found the learner's log-probs."""
    settings = ("rollout.tensor_parallel=2", "rollout.kv_cache_mb=64", "grpo.steps=2", "meta_rm.enabled=false", "eval.every=0")
    ended = run(tmp_path, "cut", *SMALL, *settings, "data.heldout=tinyheld:2:6:2", "tracking.mode=disabled")
    assert ended.status == 0, ended.output
    assert "its processes" in ended.output, "of the plan's line for the engine"
    assert ended.series("learner/version")[-1] == 2
    assert ended.series("eval/version") == [0, 2]
    await_end_of_all(str(ended.folder))  # what a killed actor started notices
