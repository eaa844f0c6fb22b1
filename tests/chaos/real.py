"""A whole run of the tiny preset whose processes are killed again and again: does it judge as well in
the end as one left in peace?

    python tests/chaos/real.py --seed 0                (make chaos)

Nothing is a fake. A process is killed (SIGKILL) at every fourth version or so, each role in turn; what must hold is in
`verify`. How accurate undisturbed runs of the preset are, seed by seed, is in docs/log.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buffer import streams
from buffer.heartbeat import last_heartbeats
from buffer.ledger import Ledger
from buffer.server import driver_url
from buffer.streams import Address, ServerError
from tests.launch.whole_run import Ended, finish, mentioning, shared_memory, start

ROLES = ("rollout", "reward", "redis", "meta-rm", "grpo")
EVERY = 4  # versions from one kill to the next
STEPS = 80


def assail(process: subprocess.Popen[str], folder: Path, limit_s: float) -> Counter[str]:
    """Kill one role after another until the last steps; how often each."""
    killed, roles, reached = Counter[str](), cycle(ROLES), EVERY
    deadline = time.monotonic() + limit_s
    while process.poll() is None:
        assert time.monotonic() < deadline, f"version {reached} was not reached within {limit_s:.0f} s"
        time.sleep(0.3)
        version, pids = look(folder)
        if version >= STEPS - EVERY:
            break
        if version < reached:
            continue
        role = next(roles)
        for pid in pids.get(role, []):
            os.kill(pid, signal.SIGKILL)
            killed[role] += 1
        reached = version + EVERY
    return killed


def look(folder: Path) -> tuple[int, dict[str, list[int]]]:
    """The learner's version, 0 before there is one; the processes by role."""
    try:
        with streams.connect(Address(driver_url(folder / "redis"), folder.name)) as client:
            if not streams.in_use(client, folder.name):
                return 0, {}
            found = {
                name.rpartition("-")[0]: [heartbeat.pid] for name, heartbeat in last_heartbeats(client, folder.name).items()
            }
            version = Ledger(client, folder.name).version()
    except ServerError:  # it has just been killed, or has not started
        return 0, {}
    return version, found | {"redis": [pid for pid, line in mentioning(str(folder)).items() if "valkey-server" in line]}


def verify(ended: Ended, killed: Counter[str], shared: set[str]) -> None:
    """Every group has one outcome, the bound holds, every death was mended and noted; nothing is left running, or in the shared
    memory (`shared`: what was there before)."""
    assert ended.status == 0, f"status {ended.status} after {killed}: {ended.output}"
    summary, groups = ended.summary, ended.summary["groups"]
    assert summary["steps"] == STEPS
    assert groups["trained"] == STEPS * 8
    assert groups["dropped"] == groups["dead_letter"] == 0
    assert 0 <= groups["issued"] - groups["trained"] - groups["filtered"] <= 16  # still outstanding: at most the credit
    assert summary["staleness"]["max"] <= summary["staleness"]["bound"]
    mended = {
        "rollout": "rollout actors",
        "reward": "the reward actor",
        "meta-rm": "the meta-RM learner",
        "grpo": "the GRPO learner",
    }
    assert {role: summary["restarts"][name] for role, name in mended.items()} == {role: killed[role] for role in mended}
    assert not mentioning(str(ended.folder))
    assert shared_memory() <= shared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory(prefix="spct-real-") as place:
        folder = Path(place) / "real"
        options = (f"run.seed={seed}", "eval.votes=[]", "eval.every=0", "learner.checkpoint_every=10")
        shared = shared_memory()
        process = start(Path(place), folder.name, *options)
        killed = assail(process, folder, limit_s=3600)
        ended = finish(process, folder, timeout_s=900)
        verify(ended, killed, shared)
        print(f"seed {seed}: {sum(killed.values())} kills, {json.dumps(killed)}; {json.dumps(ended.summary['accuracy'])}")
        print(json.dumps({name: ended.summary[name] for name in ("groups", "staleness", "restarts")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
