"""Groups of which nothing comes: the run ends when all become dead letters, and says so when all are filtered."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from buffer import streams
from buffer.streams import PROMPTS, Address
from configs.load import load
from launch.cluster.failures import RunFailed
from launch.driver import online_rl, outcome_watch
from launch.driver.format_diagnosis import HOPELESS
from launch.driver.online_rl import Training
from launch.driver.outcome_watch import CREDITS, FIRST_NOTE_S, LEAST, OutcomeWatch, why_uninformative
from launch.judging.run_judgements import Unread
from learner.arrivals import ArrivalsReport
from tests.buffer.run_by_hand import Run

CREDIT = 10


class Clock:
    """Moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outcome_watch, "time", clock)
    monkeypatch.setattr(online_rl, "time", clock)
    return clock


@pytest.fixture
def run(client: redis.Redis, address: Address) -> Run:
    return Run(client, address.run_id)


def bury(run: Run, count: int) -> None:
    """Issue groups, of which each becomes a dead letter."""
    run.issue(count)
    worker = run.consumer(PROMPTS, claim_timeout_s=60)
    for entry in worker.claim(count, block_s=0):
        assert worker.dead_letter(entry, f"token id {50000 + entry.group} is outside the vocabulary of 256")


def look(watch: OutcomeWatch, clock: Clock) -> None:
    clock.now += 1.1
    watch.check(CREDIT)


def test_a_run_whose_groups_all_become_dead_letters_ends_with_their_reasons(run: Run, clock: Clock) -> None:
    watch = OutcomeWatch(run.client, run.run_id)
    bury(run, CREDITS * CREDIT - 1)
    look(watch, clock)
    bury(run, 1)
    reason = r"the last 40 groups in a row became dead letters: 16 x token id 50039 is outside the vocabulary of 256$"
    with pytest.raises(RunFailed, match=reason):
        look(watch, clock)


def test_with_little_credit_a_few_bad_groups_are_no_reason(run: Run, clock: Clock) -> None:
    watch = OutcomeWatch(run.client, run.run_id)
    bury(run, LEAST - 1)
    clock.now += 2
    watch.check(1)


def test_any_other_outcome_begins_the_count_again(run: Run, clock: Clock) -> None:
    watch = OutcomeWatch(run.client, run.run_id)
    for _ in range(3):
        bury(run, CREDITS * CREDIT - 1)
        look(watch, clock)
        group = run.ledger.cursor().group
        run.issue(1)
        run.ledger.release([group], outcome="filtered", entries=[])
        look(watch, clock)


def test_a_resumed_run_does_not_count_the_dead_letters_of_its_first_try(run: Run, clock: Clock) -> None:
    bury(run, CREDITS * CREDIT)
    look(OutcomeWatch(run.client, run.run_id), clock)


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({"parse/failure_rate": 1.0, "reward/solved_none": 1.0}, "no judgement parsed"),
        (
            {"parse/failure_rate": 1.0, "reward/solved_none": 1.0, "length/truncated_fraction": 0.75},
            "no judgement parsed (75% were cut at rollout.max_new_tokens)",
        ),
        ({"parse/failure_rate": 0.25, "reward/solved_none": 1.0}, "every judgement was wrong (25% did not parse)"),
        ({"parse/failure_rate": 0.0, "reward/solved_all": 1.0}, "every judgement was right"),
        (
            {"parse/failure_rate": 0.0, "reward/solved_all": 0.5, "reward/solved_none": 0.5},
            "in each group all judgements were right, or all wrong (0% did not parse)",
        ),
    ],
)
def test_why_nothing_can_be_learnt(metrics: dict[str, float], why: str) -> None:
    assert why_uninformative(metrics) == why


class Waiting:
    """A loop of online RL that waits for a step."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self.logged: list[dict[str, float]] = []
        self.notes: list[str] = []
        loop: Any = Training.__new__(Training)
        loop._config, loop._evaluation = load("tiny", ["waits.progress_s=100"]), None
        loop._outcome_watch, loop._uninformative = OutcomeWatch(run.client, run.run_id), ""
        loop._stepped_at = clock.now
        loop._tracker = SimpleNamespace(log=self.logged.append, alert=lambda title, text: None)
        loop._progress = SimpleNamespace(note=self.notes.append)
        loop._run_state = SimpleNamespace(totals=SimpleNamespace(version=4))
        address = SimpleNamespace(run_id=run.run_id)
        placement = SimpleNamespace(unplaced_text=lambda groups: "")
        loop._actors = SimpleNamespace(redis=run.client, address=address, groups=[], placement=placement)
        self.loop = cast(Training, loop)


def test_a_run_whose_groups_are_all_filtered_says_so_within_a_minute_and_at_its_end(run: Run, clock: Clock) -> None:
    waiting = Waiting(run, clock)
    run.issue(12)
    run.ledger.release(range(12), outcome="filtered", entries=[])
    metrics = {"reward/mean": -1.0, "reward/solved_none": 1.0, "parse/failure_rate": 1.0}
    assert FIRST_NOTE_S < 60
    for _ in range(6):
        clock.now += FIRST_NOTE_S + 1
        waiting.loop._on_grpo_report(ArrivalsReport(version=4, groups=12, metrics=metrics))
    said = "12 groups filtered since the last step: no judgement parsed"
    assert waiting.notes == [f"no optimiser step for {seconds} s: {said}" for seconds in (16, 32, 64)], "ever more rarely"
    assert waiting.logged == [{"learner/version": 4, **metrics}] * 6
    clock.now += 10
    with pytest.raises(TimeoutError, match=rf"waited 100 s for optimiser step 5 \(waits.progress_s\): {said}\nrun "):
        waiting.loop._check_progress()
    streams.remove(run.client, run.run_id)


def test_a_run_none_of_whose_judgements_is_ever_read_ends_with_a_completion_to_read(run: Run, clock: Clock) -> None:
    waiting = Waiting(run, clock)
    loop: Any = waiting.loop
    unread = Unread(text="I like the second one.", reason="no_scores")
    loop._judgements = SimpleNamespace(unread=lambda when: unread if when == "before" else None)
    samples = loop._config.rollout.samples
    metrics = {"reward/mean": -1.0, "reward/solved_none": 1.0, "parse/failure_rate": 1.0}
    few, many = HOPELESS // samples - 1, HOPELESS // samples
    loop._on_grpo_report(ArrivalsReport(version=0, groups=few, metrics=metrics))
    loop._on_grpo_report(ArrivalsReport(version=1, groups=many, metrics=metrics))  # it has learnt once
    loop._on_grpo_report(ArrivalsReport(version=0, groups=many, metrics=metrics | {"parse/failure_rate": 0.99}))
    with pytest.raises(RunFailed, match=f"none of {many * samples} judgements was read, .*\\n.*\\n  [|] I like the second one"):
        loop._on_grpo_report(ArrivalsReport(version=0, groups=many, metrics=metrics))
