"""All processes of a real run are killed, the server among them, and one is stopped; the run goes on, and nothing is lost.
Storms of many blows at random instants are in tests/chaos, on the same streams.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from buffer import streams
from buffer.heartbeat import LastHeartbeat, last_heartbeats
from buffer.server import driver_url
from buffer.streams import Address, ServerError
from launch import scale, status
from tests.launch.whole_run import SMALL, finish, mentioning, shared_memory, start, wait_for

pytestmark = pytest.mark.chaos

LONG = (
    *SMALL,
    "grpo.steps=40",
    "eval.every=0",
    "rollout.workers=2",
    "learner.checkpoint_every=2",
    "redis.claim_timeout_s=2",
    "waits.heartbeat_s=5",
    "waits.drain_s=5",
    "meta_rm.max_backlog=200",
)


def alive(folder: Path) -> dict[str, LastHeartbeat]:
    with streams.connect(Address(driver_url(folder / "redis"), folder.name)) as client:
        return last_heartbeats(client, folder.name)


def wait_until(folder: Path, what: str, holds: object, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds(alive(folder)):  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what}: {alive(folder)}"
        time.sleep(0.2)


def wait_until_it_answers(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            alive(folder)
            return
        except ServerError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_run_survives_the_death_of_all_its_processes(tmp_path: Path) -> None:
    shared = shared_memory()
    process, folder = start(tmp_path, "faults", *LONG), tmp_path / "faults"
    wait_for(folder, '"learner/version": 3.0', process)
    before = alive(folder)
    assert set(before) == {"driver", "grpo-0", "meta-rm-0", "reward-0", "rollout-0", "rollout-1"}
    (server,) = (pid for pid, line in mentioning(str(folder)).items() if "valkey-server" in line)
    os.kill(before["rollout-1"].pid, signal.SIGSTOP)
    for pid in (*(before[name].pid for name in ("grpo-0", "meta-rm-0", "reward-0", "rollout-0")), server):
        os.kill(pid, signal.SIGKILL)
    wait_until_it_answers(folder)
    old = {heartbeat.pid for name, heartbeat in before.items() if name != "driver"}

    def replaced(now: dict[str, LastHeartbeat]) -> bool:
        fresh = [heartbeat.name.split("-")[0] for heartbeat in now.values() if heartbeat.pid not in old and heartbeat.age_s < 3]
        return sorted(fresh) == ["driver", "grpo", "meta", "reward", "rollout", "rollout"]

    wait_until(folder, "all processes to be replaced", replaced)
    assert not Path(f"/proc/{before['rollout-1'].pid}").exists()  # it was taken for dead, and ended
    assert scale.main(["--run", str(folder), "--rollouts", "1"]) == 0
    assert status.main(["--run", str(folder)]) == 0
    ended = finish(process, folder)
    assert ended.status == 0, ended.output
    summary = ended.summary
    assert summary["steps"] == 40
    assert summary["restarts"] == {"the reward actor": 1, "the GRPO learner": 1, "the meta-RM learner": 1, "rollout actors": 2}
    groups = summary["groups"]
    assert groups["trained"] == 40 * 4  # each once in the weights that survive, what was trained twice among them
    settled = groups["trained"] + groups["filtered"] + groups["dropped"] + groups["dead_letter"]
    assert settled <= groups["issued"] <= settled + 8
    assert groups["dropped"] == groups["dead_letter"] == 0
    assert summary["staleness"]["max"] <= 1
    for name in ("the reward actor died", "the GRPO learner died", "the meta-RM learner died", "a rollout actor died"):
        assert name in ended.output
    assert not mentioning(str(folder))
    assert shared_memory() <= shared


def test_an_actor_that_may_not_be_replaced_ends_the_run_with_its_name(tmp_path: Path) -> None:
    lone = ("grpo.steps=1000", "eval.every=0", "meta_rm.enabled=false", "cluster.restarts=0")
    process, folder = start(tmp_path, "broken", *SMALL, *lone), tmp_path / "broken"
    wait_for(folder, '"learner/version": 2.0', process)
    os.kill(alive(folder)["reward-0"].pid, signal.SIGKILL)
    ended = finish(process, folder, timeout_s=180)
    assert ended.status == 1, ended.output
    assert "the reward actor failed 1 times in a row" in ended.output
    assert ended.summary["finished"] == "failed"
    assert not mentioning(str(folder))
