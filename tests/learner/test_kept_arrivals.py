"""A step that is taken again reports what it reported before: arrivals are counted once, whatever the learner forgot.

The learner's intake alone, on a real server; what it trains is nothing.
"""

from pathlib import Path

import pytest

from buffer.streams import Address, key
from learner.grpo_intake import Intake
from learner.kept_arrivals import KEY
from tests.learner.run_by_hand import SAMPLES, Run, config

ALL_WRONG = (-1.0,) * SAMPLES  # filtered: nothing tells its completions apart


def opened(run: Run, *, version: int = 0, contained: tuple[str, ...] = ()) -> Intake:
    """A started intake of a learner at η = 0 with two groups a step."""
    settings = config(Path("unused"), grpo={"max_staleness": 0})
    intake = Intake(settings, Address(run.address.url, run.address.run_id), 250)
    intake.recover(version, contained)
    return intake


def step(intake: Intake, version: int) -> dict[str, float]:
    """Take the step to a version, and return what it reports."""
    batch = intake.wait(version - 1, 5.0)
    assert len(batch) == 2
    intake.trained(version, batch)
    return intake.metrics(version)


def feed(run: Run) -> None:
    """A round: one group of it is filtered, so that another is issued."""
    run.feed(1)
    run.feed(1, rewards=ALL_WRONG)


def rounds(run: Run, intake: Intake, first: int, last: int) -> dict[int, dict[str, float]]:
    found = {}
    for version in range(first, last + 1):
        feed(run)
        assert intake.wait(version - 1, 0.0) == [], "one of them is filtered"
        run.feed(1)
        found[version] = step(intake, version)
    return found


@pytest.fixture
def uncut(run: Run) -> dict[int, dict[str, float]]:
    """What three rounds report; groups are the same for the same number."""
    intake = opened(run)
    found = rounds(run, intake, 1, 3)
    intake.close()
    run.close()
    run.__init__(run.address, run.folder)  # type: ignore[misc]  # the same run, from its beginning
    assert [report["reward/solved_none"] for report in found.values()] == [pytest.approx(1 / 3)] * 3
    return found


def test_all_steps_since_the_checkpoint_are_reported_as_they_were(run: Run, uncut: dict[int, dict[str, float]]) -> None:
    first = opened(run)
    assert rounds(run, first, 1, 2) == {version: uncut[version] for version in (1, 2)}
    first.close()  # killed; there is no checkpoint
    again = opened(run)
    assert {version: step(again, version) for version in (1, 2)} == {version: uncut[version] for version in (1, 2)}
    assert rounds(run, again, 3, 3) == {3: uncut[3]}
    again.close()


def test_what_was_filtered_before_the_cut_counts_for_the_step_behind_it(run: Run, uncut: dict[int, dict[str, float]]) -> None:
    first = opened(run)
    feed(run)
    assert first.wait(0, 0.0) == []
    first.close()  # killed in the middle of a round, whose filtered group is acknowledged
    again = opened(run)
    run.feed(1)
    assert step(again, 1) == uncut[1]
    again.close()


def test_a_checkpoint_forgets_what_it_holds(run: Run, uncut: dict[int, dict[str, float]]) -> None:
    first = opened(run)
    rounds(run, first, 1, 2)
    entries = first.unacknowledged
    first.saved(2, entries)
    kept = run.client.hgetall(key(run.address.run_id, KEY))
    assert sorted(map(int, kept)) == [0], "only which of the groups that wait were counted"
    first.close()
    again = opened(run, version=2, contained=entries)
    assert rounds(run, again, 3, 3) == {3: uncut[3]}
    again.close()
