"""The rollout actor: claims prompts, samples a group of G completions for each, hands the groups on.

    [prompts] ─claim─▶ engine (many groups at once) ─hand off─▶ [rollouts]
                       ▲  ▲ load: newest weights, between two decode steps ◀── fetched meanwhile by a thread of its own
                       └─ judge: requests of an evaluation, beside the groups ─▶ judged

It claims while nothing waits for a place in its engine, so the places of completions that ended are taken at once; what one
engine could not decode yet is left for the others. Of the
prompts that are not handed on it holds no more than a fair share, unless the others leave theirs lying (`claim.lua`).

It works in slices: `work(seconds)` returns what was done as values, and running groups carry over to the next slice. What it
judges runs on in the same way, and is asked for between two slices. An entry is this worker's while its heartbeat renews the
claim; when the worker dies or hangs, another claims it. A worker that is to go drains: it finishes what it can, gives the rest
back, and leaves.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from itertools import islice
from typing import Any

from actors.generator import Request, SamplingEngine
from actors.polling import POLL_S, rest_s
from actors.rollout_report import RolloutReport, Tally
from actors.running_group import RunningGroup, requests
from actors.weight_fetch import WeightFetch
from buffer.heartbeat import Heartbeat
from buffer.messages import CodecError, Completion, Prompt, RolloutGroup, decode, encode
from buffer.rollout_target import rollout_target
from buffer.streams import PROMPTS, ROLLOUT, ROLLOUTS, Address, Consumer, Entry, connect
from buffer.weights import WeightSource
from configs.schema import Config

BLOCK_S = 0.5  # longest wait for a prompt


class RolloutActor:
    """A consumer of `prompts`. All timing limits come from the config; the engine is built in this process."""

    def __init__(
        self,
        *,
        config: Config,
        name: str,
        address: Address,
        source: WeightSource,
        build: Callable[[], SamplingEngine],
        stacks: str = "",
    ) -> None:
        """Joins the streams. `ready` builds the engine.

        Args:
            config: The run's.
            name: Of this worker, unique in the run.
            address: Of the stage's streams.
            source: Where newer weights come from.
            build: Builds the engine.
            stacks: See `Heartbeat`.
        """
        self._config, self._name, self._address, self._build = config, name, address, build
        self._fetch = WeightFetch(source)
        self._client = connect(address, timeout_s=config.waits.server_s)
        self._inbox = Consumer(
            self._client,
            address.run_id,
            PROMPTS,
            ROLLOUT,
            name,
            claim_timeout_s=config.redis.claim_timeout_s,
            max_deliveries=config.redis.max_deliveries,
        )
        self._running: list[RunningGroup] = []
        self._awaiting_weights: list[tuple[Entry, Prompt]] = []  # issued at a version that is not published (again) yet
        self._judging: list[Future[tuple[Completion, ...]]] = []
        self._answers_announced = False  # a slice has ended early for the answers
        self._held: list[str] = []  # entry ids of what it has, as a whole: the heartbeat's thread reads it
        self._steps = 0  # of the engine, when last looked at
        self._claim_at = 0.0  # when the next claim is due, by the monotonic clock
        self._tally = Tally()
        every_s, hang_s = config.heartbeat_interval_s, config.waits.hang_s
        self._start_heartbeat = partial(
            Heartbeat, address, name, every_s=every_s, hang_s=hang_s, renew_claims=self._renew, stacks=stacks
        )

    def ready(self) -> str:
        """Build the engine, which takes a while, and answer when it is up. (An error of the constructor would reach the driver
        as text.)"""
        self._engine, self._looked = self._build(), time.monotonic()
        self._heartbeat = self._start_heartbeat()
        return self._name

    def work(self, seconds: float) -> RolloutReport:
        """Roll out for about `seconds`, then report; groups not yet finished go on in the background. The slice ends early
        when everything that was to be judged is: the driver waits for that."""
        started, tokens = self._begin()
        deadline = started + seconds
        with self._heartbeat.activity("roll out"):
            while (left := deadline - time.monotonic()) > 0 and not self._answers_are_due():
                self._load_fetched()
                self._look_for_weights()
                self._claim(block_s=min(left, BLOCK_S) if self._is_idle and not self._awaiting_weights else 0.0)
                self._submit()
                self._collect_finished(timeout_s=min(left, POLL_S), or_when=self._fetch.under_way)
        return self._report(started, tokens)

    def drain(self, seconds: float) -> RolloutReport:
        """Claim nothing; hand on what is finished within `seconds`, give the rest back, and leave the streams for good."""
        started, tokens = self._begin()
        deadline = started + seconds
        with self._heartbeat.activity("drain"):
            while self._running and (left := deadline - time.monotonic()) > 0:
                self._collect_finished(timeout_s=min(left, POLL_S))
            self._running.clear()
            self._awaiting_weights.clear()
            self._hold()
            self._tally.given_back = self._inbox.leave()
        self._heartbeat.stop()
        return self._report(started, tokens)

    def judge(self, requests: Sequence[Request], version: int) -> None:
        """Give the engine requests that are no groups, beside those that it decodes; what it judged before is forgotten.

        Their first token is sampled under at least `version` (under an older one only when the learner went back to a
        checkpoint). Newer weights are pulled meanwhile, and every token carries the version that produced it.
        """
        if self._engine.edition.version < version:
            self._await_newest()
        self._judging, self._answers_announced = self._engine.submit(requests), False

    def judged(self, seconds: float) -> list[tuple[Completion, ...]] | int:
        """Returns the completions of all requests of the last `judge`, or how many there are when some are missing after
        `seconds`. Groups are handed on meanwhile; no prompt is claimed."""
        deadline = time.monotonic() + seconds
        with self._heartbeat.activity("judge"):
            while self._is_judging() and (left := deadline - time.monotonic()) > 0:
                if self._running:
                    self._collect_finished(timeout_s=min(left, POLL_S))
                else:
                    wait(self._judging, timeout=min(left, POLL_S))
                    self._note_progress()
        if self._is_judging():
            return sum(future.done() for future in self._judging)
        answers, self._judging = [future.result() for future in self._judging], []
        return answers

    def close(self) -> None:
        """End the heartbeat and the engine. In a run the driver kills the process instead."""
        self._heartbeat.stop()
        self._engine.close()

    # ---- one turn of the loop ------------------------------------------------------------------------------------

    def _begin(self) -> tuple[float, int]:
        self._tally = Tally()
        self._workers = rollout_target(self._client, self._address.run_id) or self._config.rollout.workers
        self._rest_s = rest_s(self._workers)
        return time.monotonic(), self._engine.tokens

    def _report(self, started: float, tokens: int) -> RolloutReport:
        return self._tally.report(
            worker=self._name,
            version=self._engine.edition.version,
            tokens=self._engine.tokens - tokens,
            in_flight=len(self._running),
            seconds=time.monotonic() - started,
        )

    @property
    def _is_idle(self) -> bool:
        return not (self._running or self._is_judging())

    def _is_judging(self) -> bool:
        return not all(future.done() for future in self._judging)

    def _answers_are_due(self) -> bool:
        """Whether answers have just become complete: true once, or slices would be short until they are asked for."""
        due = bool(self._judging) and not self._answers_announced and not self._is_judging()
        self._answers_announced |= due
        return due

    def _claim(self, *, block_s: float) -> None:
        room = self._room()
        if not room or self._engine.waiting or self._heartbeat.hung:  # a hung one takes not even its own lapsed claims
            return
        started = time.monotonic()
        if not block_s and started < self._claim_at:
            return
        entries = self._inbox.claim(room, block_s=block_s, workers=self._workers)
        self._claim_at = 0.0 if entries else time.monotonic() + self._rest_s
        self._tally.idle_s += self._is_idle * (time.monotonic() - started)
        held = {*self._held}  # a lapsed claim of our own may come back to us
        fresh = [entry for entry in entries if entry.id not in held]
        self._awaiting_weights += [(entry, prompt) for entry in fresh if (prompt := self._read(entry)) is not None]
        self._hold()

    def _room(self) -> int:
        """Returns how many groups to claim: up to `rollout.max_groups`, beyond that one at a time. It waits in the engine until
        completions end there, whose places would be empty until the last of their group has ended."""
        room = self._config.rollout.max_groups - len(self._running) - len(self._awaiting_weights)
        return max(room, 0 if self._awaiting_weights else 1)

    def _submit(self) -> None:
        """Give the engine the prompts that are due: a prompt issued at u is never sampled by weights older than u. A late
        joiner pulls before it starts; when the learner went back to a checkpoint, the prompt waits until u is published again
        (the learner trains on older ones first)."""
        if not self._awaiting_weights:
            return
        if max(prompt.issued_at for _, prompt in self._awaiting_weights) > self._engine.edition.version:
            self._fetch.start_if_newer(self._engine.edition)
        if self._fetch.replaces(self._engine.edition):  # what was undone is not sampled any more
            return
        due = [pair for pair in self._awaiting_weights if pair[1].issued_at <= self._engine.edition.version]
        if not due:
            return
        futures = iter(self._engine.submit([request for _, prompt in due for request in self._requests(prompt)]))
        now = time.monotonic()
        self._running += [
            RunningGroup(entry=entry, prompt=prompt, futures=[*islice(futures, len(prompt.views))], submitted_at=now)
            for entry, prompt in due
        ]
        self._awaiting_weights = [pair for pair in self._awaiting_weights if pair not in due]

    def _read(self, entry: Entry) -> Prompt | None:
        try:
            return decode(entry.payload, Prompt, max_bytes=self._config.max_entry_bytes)
        except CodecError as error:
            self._inbox.dead_letter(entry, f"prompt not readable: {error}")
            return None

    def _requests(self, prompt: Prompt) -> list[Request]:
        rollout = self._config.rollout
        return requests(prompt, temperature=rollout.temperature, max_new_tokens=rollout.max_new_tokens)

    def _collect_finished(self, *, timeout_s: float, or_when: Sequence[Future[Any]] = ()) -> None:
        """Hand on the groups that are finished (waiting a moment for one, or for `or_when`), keep what is running."""
        awaited = [future for group in self._running for future in group.futures if not future.done()]
        awaited += or_when
        started, idle = time.monotonic(), self._is_idle
        if awaited:
            wait(awaited, timeout=timeout_s, return_when=FIRST_COMPLETED)
        elif self._awaiting_weights or self._is_judging():
            time.sleep(timeout_s)
        self._tally.idle_s += idle * (time.monotonic() - started)
        # in group order, not in that of their ends: what follows (and at eta = 0 the whole run) is then reproducible
        done = sorted((group for group in self._running if group.done), key=lambda group: group.prompt.group)
        self._running = [group for group in self._running if group not in done]
        for group in done:
            self._tally.latencies_s.append(time.monotonic() - group.submitted_at)
            self._hand_on(group)
        if done:
            self._hold()
            self._claim_at = 0.0
        self._note_progress()

    def _hand_on(self, running: RunningGroup) -> None:
        completions = running.completions
        try:
            group = RolloutGroup(prompt=running.prompt, completions=completions)
            payload = encode(group, max_bytes=self._config.max_entry_bytes)
        except CodecError as error:
            reason = f"a rollout that cannot be handed on ({error}): raise redis.max_entry_mb"
            self._inbox.dead_letter(running.entry, reason)
            return
        if self._inbox.hand_off(running.entry, ROLLOUTS, payload):
            self._tally.groups += 1
            self._heartbeat.done += 1
            self._tally.completions += len(completions)
        else:
            self._tally.lost += 1

    def _note_progress(self) -> None:
        """Decoding is progress, and so is having nothing to decode."""
        if self._engine.steps != self._steps or not (self._running or self._is_judging()):
            self._steps = self._engine.steps
            self._heartbeat.progressed()

    def _hold(self) -> None:
        running = [group.entry.id for group in self._running]
        self._held = running + [entry.id for entry, _ in self._awaiting_weights]

    def _renew(self) -> None:
        """Called by the heartbeat, in its thread."""
        self._inbox.renew(self._held)

    def _look_for_weights(self) -> None:
        now = time.monotonic()
        if now - self._looked > POLL_S + self._rest_s:
            self._looked = now
            self._fetch.start_if_newer(self._engine.edition)

    def _await_newest(self) -> None:
        """Load the weights that are the newest now; groups are handed on meanwhile."""
        self._await_fetch()  # it may have begun before the newest were published
        self._fetch.start_if_newer(self._engine.edition)
        self._await_fetch()

    def _await_fetch(self) -> None:
        while under_way := self._fetch.under_way:
            self._collect_finished(timeout_s=POLL_S, or_when=under_way)
            self._load_fetched()

    def _load_fetched(self) -> None:
        fetched = self._fetch.take()
        if fetched is None:
            return
        self._tally.pause_s += self._engine.load(fetched.weights)
        self._tally.pull_s += time.monotonic() - fetched.started_at
        self._tally.pulls += 1
        self._heartbeat.version = fetched.weights.version
        self._heartbeat.progressed()
