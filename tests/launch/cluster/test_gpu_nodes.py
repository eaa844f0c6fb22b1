"""On a real Ray cluster of several nodes, each told that it had GPUs: what runs hold, and which nodes see a folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def seen_on(nodes: int, folder: Path, *arguments: str) -> dict[str, Any]:
    """What `gpu_nodes.py` prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"PYTHONPATH": str(Path(__file__).parents[3]), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_raylet_start_wait_time_s": "120"}
    command = [sys.executable, str(Path(__file__).with_name("gpu_nodes.py")), str(nodes), str(folder), *arguments]
    done = subprocess.run(command, env=env, timeout=500, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def parts(lines: Sequence[str]) -> list[str]:
    """A drawing without the names of its nodes, which all have one address here; for each node a text."""
    return [re.sub(r".*: ", "", line) for line in lines for _ in line.rpartition(": ")[0].split(",")]


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is seen on two nodes of 8, where the policy fills one and the rest shares the other."""
    folder = tmp_path_factory.mktemp("run")
    return seen_on(2, folder, "qwen3-8b", "learner.ranks=8", "meta_rm.ranks=4", "rollout.workers=4")


@pytest.mark.slow
def test_two_runs_on_a_cluster_never_hold_a_half_each(two_nodes: dict[str, Any]) -> None:
    """A second run gets nothing until the first has ended."""
    seen = two_nodes
    assert parts(seen["held"]) == ["policy 8", "meta-RM 4, engine 1"]
    assert sorted(seen["free"]) == [0, 3], "the run that waits holds nothing"
    assert re.search(
        r"the driver waited 1 s for GPUs \(waits\.start_s\): 8 GPU, 8 CPU of one node for the policy; 4 GPU, 4 CPU of one node"
        r" for the meta-RM; 1 GPU, 1 CPU of one node for the engine; .* and now .*0 of 8 GPU on 1 node.* are; end what uses",
        seen["second"],
    )
    assert parts(seen["after"]) == parts(seen["held"])


@pytest.mark.slow
def test_every_node_is_asked_whether_it_sees_the_folder_of_a_run(two_nodes: dict[str, Any]) -> None:
    assert two_nodes["left"] == []
    assert len(re.findall(r"\w+ \(127\.0\.0\.1\)|\S+ \([\d.]+\)", two_nodes["not shared"])) >= 2, two_nodes["not shared"]


@pytest.mark.full
def test_the_27b_preset_fills_its_seven_nodes(tmp_path: Path) -> None:
    seen = seen_on(7, tmp_path, "gemma2-27b")
    assert parts(seen["held"]) == ["policy 8"] * 4 + ["meta-RM 8", "meta-RM 7, engine 1"]
    assert sorted(seen["free"]) == [0] * 6 + [8], "and eight more engines"


@pytest.mark.full
def test_the_70b_preset_fills_its_sixteen_nodes(tmp_path: Path) -> None:
    """An engine has four GPUs of one node; the second has the others, and two more have a node."""
    seen = seen_on(16, tmp_path, "llama3.3-70b")
    assert parts(seen["held"]) == ["policy 8"] * 8 + ["meta-RM 8"] * 6 + ["engine 4"]
    assert sorted(seen["free"]) == [0] * 14 + [4, 8]
    assert "4 GPU, 4 CPU of one node for the engine" in seen["second"]
