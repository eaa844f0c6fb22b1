"""The loop of online RL around its last step: no learner is given a step beyond `grpo.steps`."""

import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from buffer.ledger import Cursor
from configs.load import load
from launch.cluster.actor_group import State
from launch.cluster.failures import FinalError, RunFailed
from launch.driver import online_rl
from launch.driver.online_rl import Training
from launch.driver.run_state import RunTotals

STEPS = 3


class Learner:
    """A supervised group that counts the steps that it is given."""

    def __init__(self, state: State = State.READY) -> None:
        self.group, self.steps = SimpleNamespace(state=state), 0

    def step(self) -> None:
        self.steps += 1


def training(learner: Learner, *, reported: int, in_ledger: int) -> Training:
    """A loop between two turns. reported: version of the last report; in_ledger: of the last step that was settled."""
    loop: Any = Training.__new__(Training)
    loop._config = load("tiny", [f"grpo.steps={STEPS}"])
    loop._run_state = SimpleNamespace(totals=RunTotals(version=reported))
    loop._ledger = SimpleNamespace(version=lambda: in_ledger)
    loop._grpo, loop._learners, loop._reward = learner, [learner], None
    loop._pool = SimpleNamespace(workers=[])
    return cast(Training, loop)


@pytest.fixture(autouse=True)
def _learners_end_their_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_rl, "poll", lambda groups: [group for group in groups if isinstance(group, Learner)])


def test_before_the_last_step_a_learner_is_given_the_next() -> None:
    learner = Learner()
    training(learner, reported=STEPS - 1, in_ledger=STEPS - 1)._poll()
    assert learner.steps == 1


def test_a_learner_that_died_with_the_report_of_the_last_step_takes_no_other() -> None:
    learner = Learner()
    loop = training(learner, reported=STEPS - 1, in_ledger=STEPS)
    loop._poll()
    assert learner.steps == 0
    assert loop._trained


def test_a_step_that_may_still_be_lost_is_not_the_last() -> None:
    learner = Learner(State.MAKING)  # it died behind the publication of the last version, before its checkpoint
    loop = training(learner, reported=STEPS - 1, in_ledger=STEPS)
    loop._poll()
    assert not loop._trained


def test_a_run_that_is_resumed_behind_its_last_step_takes_no_other() -> None:
    learner, worker = Learner(), SimpleNamespace(work=lambda: None)
    loop: Any = training(learner, reported=STEPS, in_ledger=STEPS)
    loop._reward, loop._evaluation = worker, None
    loop._actors = SimpleNamespace(heartbeat=SimpleNamespace(activity=lambda what: nullcontext()), meta_rm=None)
    loop._ledger = SimpleNamespace(
        cursor=lambda: Cursor(group=24),
        version=lambda: STEPS,
        outstanding=lambda: {22: 2, 23: 3},
        finished=lambda: {7, 22},
        outcomes=dict,
    )
    loop._reached, notes = STEPS, list[str]()
    loop._progress = SimpleNamespace(note=notes.append)
    loop.run()
    assert learner.steps == 0
    assert notes == ["resumed at step 3, 1 group kept, 1 group under way"]


@pytest.mark.parametrize("error", [RunFailed("3 rollout actors died in a row"), TimeoutError("6 of 6 prompts")])
def test_an_evaluation_that_does_not_get_done_is_left_out(error: Exception) -> None:
    notes: list[str] = []
    loop = evaluating(error, notes)
    loop._advance_evaluation()
    assert loop._evaluation is None
    assert notes == [f"an evaluation is left out: {error}"]


def test_a_final_error_under_an_evaluation_ends_the_run() -> None:
    """The one after the training would meet it too, after all the steps."""
    notes: list[str] = []
    with pytest.raises(FinalError, match="no such prompt"):
        evaluating(FinalError("a rollout actor: ValueError: no such prompt"), notes)._advance_evaluation()
    assert notes == []


def evaluating(error: Exception, notes: list[str]) -> Any:
    """A loop with an evaluation under way that fails with this error."""

    def advance() -> None:
        raise error

    loop: Any = training(Learner(), reported=1, in_ledger=1)
    loop._evaluation, loop._progress = SimpleNamespace(advance=advance), SimpleNamespace(note=notes.append)
    return loop


# ---- a signal ----------------------------------------------------------------------------------------------------


class Stopped(Learner):
    """A learner that gets a signal under its first step."""

    name, pending = "the GRPO learner", ()

    def step(self) -> None:
        super().step()
        os.kill(os.getpid(), signal.SIGTERM)


def stopping(learner: Learner, monkeypatch: pytest.MonkeyPatch, *, version: int) -> tuple[Any, list[str], list[Any]]:
    """A loop whose learner ends one slice a turn; what is noted, and the learners that are told to save."""
    loop: Any = training(learner, reported=version, in_ledger=version)
    notes, saved = list[str](), list[Any]()
    loop._evaluation, loop._reward, loop._reached = None, SimpleNamespace(work=lambda: None), version
    loop._ledger = SimpleNamespace(cursor=lambda: Cursor(), version=lambda: version, outcomes=dict)
    loop._actors = SimpleNamespace(heartbeat=SimpleNamespace(activity=lambda what: nullcontext()), meta_rm=None)
    loop._progress = SimpleNamespace(note=notes.append, activity=lambda text: None)
    loop._turn = loop._poll

    def save(learners: Any, others: Any, **how: Any) -> bool:
        saved.extend(learners)
        return True

    monkeypatch.setattr(online_rl, "save", save)
    return loop, notes, saved


def test_a_signal_saves_before_it_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Stopped()
    loop, notes, saved = stopping(learner, monkeypatch, version=2)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert saved == [learner]
    assert notes[-1] == "saved: the checkpoint of step 2"


def test_a_second_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, _, saved = stopping(Stopped(), monkeypatch, version=2)
    monkeypatch.setattr(online_rl, "save", lambda *learners, **how: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert saved == []


def test_before_the_first_step_there_is_nothing_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, _, saved = stopping(Stopped(), monkeypatch, version=0)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert saved == []


def test_before_the_first_step_of_the_policy_those_of_the_meta_rm_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, notes, saved = stopping(Stopped(), monkeypatch, version=0)
    meta_rm = Learner()
    loop._learners.append(meta_rm)
    loop._run_state.totals.meta_completions = [64, 61]
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert saved == [meta_rm]
    assert notes[-1] == "saved: the meta-RM, behind its step 2; the policy has taken none"


def test_a_signal_in_the_last_turn_ends_the_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, _, saved = stopping(learner := Learner(), monkeypatch, version=2)

    def last_turn() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        loop._run_state.totals.version = STEPS

    loop._turn = last_turn
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert saved == [learner]
