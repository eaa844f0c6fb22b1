"""The loop of online RL around its last step: no learner is given a step beyond `grpo.steps`."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

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
    loop._ledger.outcomes = dict
    loop.run()
    assert learner.steps == 0


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
