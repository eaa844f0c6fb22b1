"""A storm: a run of real streams whose processes are killed and stopped at random instants, and what must hold after it.

    python tests/chaos/storm.py --seeds 20 --groups 500 --blows 50        (make chaos)

A seed fixes which process is struck when, and how; the operating system decides in the middle of which instruction. For
each storm: every issued group is trained, filtered, dropped or a dead letter exactly once in the weights that survive, the
bound on staleness holds, and no process is left behind.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buffer import streams
from buffer.heartbeat import last_heartbeats
from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.server_watchdog import ServerWatchdog
from buffer.streams import Address
from configs.load import load
from configs.schema import Config
from tests.chaos.components import DULL, ROLES, Stage, restored

Blow = Literal["kill", "stop"]
TARGETS = ("rollout", "rollout", "rollout", "reward", "learner", "meta-rm", "driver", "redis")  # rollouts are many
STOPPED_S = 1.5  # longer than a claim lives: a process that wakes finds that others have done its work
CLAIM_S = 0.6


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    at_s: float
    role: str
    blow: Blow


@dataclass(kw_only=True, slots=True)
class StormResults:
    """What a storm left."""

    seed: int
    """Of its schedule."""
    blows: Counter[str] = field(default_factory=Counter)
    """Strikes by role."""
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By role, from each kill until that role had got something done again; looked at every tenth of a second."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Groups by outcome."""
    staleness: int = 0
    """The largest of a trained group, in versions."""
    retrained: int = 0
    """Groups whose gradient was lost with a learner, and that were trained once more."""
    seconds: float = 0.0
    """Length of the storm."""


def schedule(seed: int, blows: int, seconds: float) -> list[Strike]:
    """Returns which role is struck when: `blows` strikes spread over `seconds`, every role among them."""
    chance = random.Random(f"storm/{seed}")
    roles = [*dict.fromkeys(TARGETS)] + [chance.choice(TARGETS) for _ in range(blows)]
    roles = roles[:blows]
    chance.shuffle(roles)
    times = sorted(chance.uniform(0.3, seconds) for _ in roles)
    return [
        Strike(at_s=at, role=role, blow="kill" if role == "redis" or chance.random() < 0.8 else "stop")
        for at, role in zip(times, roles, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recovering:
    role: str
    since: float
    done: int


class Storm:
    """The processes of one run, started again when they die, as the driver's actors and a job's retries are."""

    def __init__(self, seed: int, *, groups: int, blows: int, workers: int, folder: Path) -> None:
        self._seed, self._workers = seed, workers
        self._folder = folder
        steps = groups // 4
        self.config: Config = load(
            "tiny",
            [
                "grpo.batch_groups=4",
                f"grpo.steps={steps}",
                "grpo.max_staleness=2",
                "rollout.samples=2",
                "meta_rm.batch=8",
                "meta_rm.max_backlog=200",
                "learner.checkpoint_every=4",
                f"redis.claim_timeout_s={CLAIM_S}",
                "rollout.max_groups=3",
                "redis.max_deliveries=50",
                "waits.server_s=10",
            ],
        )
        self._strikes = schedule(seed, blows, seconds=max(6.0, groups / 14))
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["tests.chaos.components"])
        self._alive: dict[str, Any] = {}
        self._made = Counter[str]()
        self._waking: list[tuple[float, int]] = []
        self._recovering: list[_Recovering] = []
        self._looked, self._highest = 0.0, 0
        self.outcome = StormResults(seed=seed)

    def run(self, timeout_s: float) -> StormResults:
        began = time.monotonic()
        self._server = EmbeddedServer(self._folder / "redis")
        self._server.start()
        watchdog = ServerWatchdog(self._server, tries=10**6)
        try:
            self._set_up()
            while not self._finished():
                if time.monotonic() - began > timeout_s:
                    raise AssertionError(f"seed {self._seed}: not finished after {timeout_s:.0f} s: {self._ledger.outcomes()}")
                self._strike(time.monotonic() - began)
                self._mend()
                self._look()
                time.sleep(0.02)
            self.outcome.seconds = time.monotonic() - began
            self._verify()
        finally:
            for process in self._alive.values():
                process.kill()
                process.join()
            watchdog.stop()
        return self.outcome

    def _set_up(self) -> None:
        run_id = f"storm-{self._seed}"
        roles = ("driver", "rollout", "reward", "learner", "meta-rm")
        addresses = {role: Address(self._server.url_for(role), run_id) for role in roles}
        self._stage = Stage(config=self.config, folder=self._folder, addresses=addresses)
        self._client = streams.connect(addresses["driver"])
        self._run_id = run_id
        streams.setup(self._client, run_id, meta_rm=True)
        self._ledger = Ledger(self._client, run_id)
        for role in ("driver", "reward", "learner", "meta-rm"):
            self._start(role, role)
        for i in range(self._workers):
            self._start("rollout", f"rollout/{i}")

    def _start(self, role: str, slot: str) -> None:
        self._made[slot] += 1
        name = f"{slot.replace('/', '-')}.{self._made[slot]}" if role == "rollout" else f"{role}-0"
        process = self._processes.Process(target=ROLES[role], args=(self._stage, name, f"{self._seed}/{name}"), daemon=True)
        process.start()
        self._alive[slot] = process

    def _strike(self, now: float) -> None:
        while self._strikes and self._strikes[0].at_s <= now:
            strike = self._strikes.pop(0)
            pid = self._victim(strike)
            if pid is None:
                continue
            self.outcome.blows[f"{strike.blow} {strike.role}"] += 1
            if strike.blow == "kill":
                self._recovering.append(_Recovering(role=strike.role, since=time.monotonic(), done=self._done(strike.role)))
            try:
                os.kill(pid, signal.SIGKILL if strike.blow == "kill" else signal.SIGSTOP)
            except ProcessLookupError:  # it had just died
                continue
            if strike.blow == "stop":
                self._waking.append((time.monotonic() + STOPPED_S, pid))
        for at, pid in list(self._waking):
            if time.monotonic() > at:
                self._waking.remove((at, pid))
                with suppress(ProcessLookupError):
                    if pid in {process.pid for process in self._alive.values()}:
                        os.kill(pid, signal.SIGCONT)

    def _victim(self, strike: Strike) -> int | None:
        if strike.role == "redis":
            return self._server.pid
        slots = [slot for slot in self._alive if slot.split("/")[0] == strike.role]
        chance = random.Random(f"victim/{self._seed}/{strike.at_s}")
        process = self._alive[chance.choice(slots)]
        return process.pid if process.is_alive() else None

    def _mend(self) -> None:
        """Start again what has died. The learner of a run that is done has not died."""
        for slot, process in list(self._alive.items()):
            if not process.is_alive() and not (slot == "learner" and process.exitcode == 0):
                process.join()
                self._start(slot.split("/")[0], slot)

    def _look(self) -> None:
        """Which roles have got something done since they were struck; what the learner lost."""
        if time.monotonic() - self._looked < 0.1:
            return
        self._looked = time.monotonic()
        version = self._ledger.version()
        self.outcome.retrained += 4 * max(0, self._highest - version) if version < self._highest else 0
        self._highest = version
        for one in list(self._recovering):
            if self._done(one.role) not in (one.done, 0):
                self.outcome.recovery_s[one.role].append(time.monotonic() - one.since)
                self._recovering.remove(one)

    def _done(self, role: str) -> int:
        """What the processes of a role say that they have done; changes when one of them does more, or starts anew."""
        if role == "driver":
            return self._ledger.cursor().group
        if role == "redis":
            return self._ledger.outcomes()["issued"]
        found = last_heartbeats(self._client, self._run_id).values()
        return sum(heartbeat.done for heartbeat in found if heartbeat.name.startswith(role))

    def _finished(self) -> bool:
        return not self._strikes and not self._waking and self._alive["learner"].exitcode == 0

    # ---- what must hold ------------------------------------------------------------------------------------------

    def _verify(self) -> None:
        version, _, weights = restored(self._folder / "policy")
        trained = [group for group, _, _ in weights]
        outstanding, outcomes = set(self._ledger.outstanding()), self._ledger.outcomes()
        dead = [letter.group for letter in streams.dead_letters(self._client, self._run_id)]
        issued = set(range(self._ledger.cursor().group))
        filtered = {group for group in issued if group % DULL == 0} - outstanding - set(dead)
        assert version == self.config.grpo.steps
        assert len(trained) == len(set(trained)) == version * 4, "a group was trained twice, or lost (I3)"
        places = Counter([*trained, *filtered, *outstanding, *dead])
        assert set(places) == issued, f"unaccounted: {sorted(issued - set(places))}, unknown: {sorted(set(places) - issued)}"
        assert set(places.values()) == {1}, f"twice: {[group for group, times in places.items() if times > 1]}"
        counted = {"trained": len(trained), "filtered": len(filtered), "dropped": 0, "dead_letter": len(dead)}
        assert {name: outcomes[name] for name in counted} == counted
        assert outcomes["issued"] == len(issued) == sum(counted.values()) + len(outstanding)
        staleness = [at - u for _, u, at in weights]
        assert min(staleness) >= 0
        assert max(staleness) <= self.config.grpo.max_staleness, "the bound was broken (I2)"
        _, _, meta = restored(self._folder / "meta-rm")
        read = [group for (group,) in meta]
        assert len(read) == len(set(read)), "the meta-RM was trained on a group twice (I3)"
        self.outcome.outcomes, self.outcome.staleness = outcomes, max(staleness)
        assert last_heartbeats(self._client, self._run_id)  # the others send heartbeats


def storm(seed: int, *, groups: int, blows: int, workers: int = 3, timeout_s: float = 300.0) -> StormResults:
    """One storm; AssertionError when something does not hold."""
    with tempfile.TemporaryDirectory(prefix="spct-storm-") as folder:
        return Storm(seed, groups=groups, blows=blows, workers=workers, folder=Path(folder)).run(timeout_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--blows", type=int, default=50)
    given = parser.parse_args()
    total, recovery, retrained = Counter[str](), defaultdict[str, list[float]](list), 0
    for seed in range(given.first, given.first + given.seeds):
        found = storm(seed, groups=given.groups, blows=given.blows)
        total += found.blows
        retrained += found.retrained
        for role, seconds in found.recovery_s.items():
            recovery[role] += seconds
        said = f"{sum(found.blows.values())} blows survived in {found.seconds:.0f} s, staleness <= {found.staleness}"
        print(f"seed {seed}: {said}, {json.dumps(found.outcomes)}", flush=True)
    print(f"all: {sum(total.values())} blows, {json.dumps(dict(sorted(total.items())))}; {retrained} groups trained again")
    for role, seconds in sorted(recovery.items()):
        print(f"{role:8} killed {len(seconds)} times, back at work after {median(seconds):.1f} s (worst {max(seconds):.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
