"""A run with thousands of workers as a discrete-event model: where its time goes, from what each part costs for a group.

    driver ─issue─▶ prompts ─claim─▶ places of engines ─hand off─▶ reward actors ─▶ learner: B groups a step ─▶ credit

Every group passes five queues, each first come, first served. The driver, each reward actor and the learner do one thing at a
time; so does the Redis server, which all of them call, and which the workers ask for prompts and newer weights between
their groups. Engines do not slow each other down. Pure: the same arguments give the same outcome.
"""

import heapq
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

ISSUED = 64  # prompts in one call of the driver
MOST_BUSY = 0.95  # of the server, by groups, beyond which the estimate of the line of polls would be without bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What one group costs, in seconds; of the server where no other part is named."""

    issue_s: float
    """To issue it."""
    sample_s: float
    """To be claimed by a rollout actor and handed on."""
    reward_s: float
    """To be claimed by a reward actor and handed on."""
    learn_s: float
    """To be claimed, counted and acknowledged by the learner."""
    poll_s: float
    """A look of one rollout actor for newer weights and for a prompt."""
    driver_s: float
    """The driver's own: rendering and tokenizing its prompt."""
    judging_s: float
    """The reward actor's own."""
    intake_s: float
    """The learner's own, before it can be trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """How large a run is, and how fast its engines and its learner are."""

    workers: int
    """Rollout workers, each with an engine."""
    places: int
    """Groups in an engine at a time."""
    group_s: float
    """Mean time of a group in an engine."""
    sigma: float
    """Of the logarithm of that time, which is normal; 0: all take as long."""
    batch: int
    """B, groups of a step."""
    max_staleness: int
    """η; (η + 1) · B groups are outstanding at most."""
    step_s: float
    """The optimiser step alone."""
    pause_s: float
    """For which an engine stands still at each new version."""
    poll_every_s: float
    """Between two looks of a rollout actor."""
    rewards: int = 1
    """Reward actors."""

    @property
    def own_rate(self) -> float:
        """Groups a second that the engines would complete if nothing else took time."""
        return self.workers * self.places / self.group_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of it."""

    rate: float
    """Groups trained a second."""
    busy: Mapping[str, float]
    """Share of its time that each part was at work."""

    @property
    def bound(self) -> str:
        """The part that was at work most, with its share."""
        name, share = max(self.busy.items(), key=lambda pair: pair[1])
        return f"{name} at work for {share:.0%} of its time"


def poll_delay_s(workers: int, poll_s: float, every_s: float, busy: float) -> float:
    """Return how long a call waits in the line of polls.

    Of a closed loop of workers that sleep for `every_s` and then wait for their answer, the server answers at most
    (1 - busy) / poll_s a second; what is over stands in line (Little's law): workers · poll_s / (1 - busy) - every_s.

    Args:
        workers: That poll.
        poll_s: Of the server, for one.
        every_s: From an answer to the next poll.
        busy: Share of the server that other calls take.

    >>> poll_delay_s(1000, 0.00004, 0.05, 0.0)  # 1,000 · 40 µs are answered within the 50 ms
    0.0
    >>> poll_delay_s(2000, 0.00004, 0.05, 0.2)  # 2,000 · 40 µs at four fifths of the server are 100 ms, 50 of them in line
    0.05
    """
    return round(max(0.0, workers * poll_s / (1 - min(busy, MOST_BUSY)) - every_s), 9)


@dataclass(slots=True)
class _Server:
    """Somebody who does one job at a time, first come, first served."""

    work_s: float = 0.0
    free_at: float = 0.0

    def serve(self, at: float, seconds: float) -> float:
        """Return when a job that came `at` is done."""
        self.work_s += seconds
        self.free_at = max(at, self.free_at) + seconds
        return self.free_at


class _Run:
    def __init__(self, fleet: Fleet, costs: Costs, seed: int) -> None:
        self.fleet, self.costs, self._random = fleet, costs, random.Random(seed)
        self.server, self.driver = _Server(), _Server()
        self.judging_s = self.learning_s = 0.0
        self.now = self.sampled_s = 0.0
        self.version = 0
        self._trained_at = [0.0]  # when each version was there
        self._idle, self._prompts = fleet.workers * fleet.places, deque[float]()  # places; when each prompt was there
        self._to_judge, self._judging = 0, 0  # groups that wait, and reward actors at work
        self._ready, self._training = 0, False
        self._number = 0
        self._events: list[tuple[float, int, str, int]] = []

    def play(self, steps: int) -> None:
        self._issue((self.fleet.max_staleness + 1) * self.fleet.batch)
        while self.version < steps:
            self.now, _, kind, value = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(value)

    def _push(self, at: float, kind: str, value: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, kind, value))

    def _call(self, seconds: float) -> float:
        """Return when a call of the server that begins now is answered."""
        busy = self.server.work_s / self.now if self.now else 0.0
        line_s = poll_delay_s(self.fleet.workers, self.costs.poll_s, self.fleet.poll_every_s, busy)
        return max(self.server.serve(self.now, seconds), self.now + line_s + seconds)

    def _issue(self, count: int) -> None:
        for first in range(0, count, ISSUED):
            chunk = min(ISSUED, count - first)
            self._push(self.driver.serve(self.now, chunk * self.costs.driver_s), "issued", chunk)

    def _issued(self, count: int) -> None:
        self._push(self._call(count * self.costs.issue_s), "arrived", count)

    def _arrived(self, count: int) -> None:
        self._prompts.extend([self.now] * count)
        self._start()

    def _start(self) -> None:
        while self._idle and self._prompts:
            self._prompts.popleft()
            self._idle -= 1
            sigma = self.fleet.sigma
            length = self._random.lognormvariate(-sigma * sigma / 2, sigma) * self.fleet.group_s
            self.sampled_s += length
            self._push(self._call(self.costs.sample_s / 2) + length, "sampled", self.version)

    def _sampled(self, version: int) -> None:
        if paused := self.version - version:  # new weights came meanwhile, and stopped it each time
            self._push(self.now + paused * self.fleet.pause_s, "sampled", self.version)
            return
        done = self._call(self.costs.sample_s / 2)
        self._push(done, "handed_on", 0)

    def _handed_on(self, _: int) -> None:
        self._idle += 1
        self._to_judge += 1
        self._start()
        self._judge()

    def _judge(self) -> None:
        while self._to_judge and self._judging < self.fleet.rewards:
            self._to_judge, self._judging = self._to_judge - 1, self._judging + 1
            done = self._call(self.costs.reward_s) + self.costs.judging_s
            self.judging_s += done - self.now
            self._push(done, "rewarded", 0)

    def _rewarded(self, _: int) -> None:
        self._judging -= 1
        self._ready += 1
        self._judge()
        self._learn()

    def _learn(self) -> None:
        if self._training or self._ready < self.fleet.batch:
            return
        self._ready, self._training = self._ready - self.fleet.batch, True
        own = self.fleet.batch * self.costs.intake_s + self.fleet.step_s
        done = self._call(self.fleet.batch * self.costs.learn_s) + own
        self.learning_s += done - self.now
        self._push(done, "stepped", 0)

    def _stepped(self, _: int) -> None:
        self.version, self._training = self.version + 1, False
        self._trained_at.append(self.now)
        self._issue(self.fleet.batch)
        self._learn()

    def outcome(self, skipped: int) -> Outcome:
        seconds = self._trained_at[-1] - self._trained_at[skipped]
        polls = self.costs.poll_s * self.fleet.workers / self.fleet.poll_every_s
        served = self.server.work_s / self.now
        return Outcome(
            rate=(self.version - skipped) * self.fleet.batch / seconds,
            busy={
                "engines": min(1.0, self.sampled_s / (self.now * self.fleet.workers * self.fleet.places)),
                "the Redis server": min(1.0, served + polls),
                "the driver": min(1.0, self.driver.work_s / self.now),
                "the reward actors": min(1.0, self.judging_s / (self.now * self.fleet.rewards)),
                "the learner": min(1.0, self.learning_s / self.now),
            },
        )


def simulate(fleet: Fleet, costs: Costs, *, steps: int = 12, seed: int = 0) -> Outcome:
    """Return what comes of a run of so many steps. The rate leaves out the first third, in which the pipeline fills."""
    run = _Run(fleet, costs, seed)
    run.play(steps)
    return run.outcome(steps // 3)
