"""Kills and stops of every role at random instants, on real streams with a fake engine. `make chaos` is the long version."""

from collections import Counter

import pytest

from tests.chaos.storm import TARGETS, schedule, storm

pytestmark = pytest.mark.slow


def test_after_a_storm_every_group_is_accounted_for_exactly_once() -> None:
    found = storm(100, groups=120, blows=16)
    assert sum(found.blows.values()) >= 12
    assert found.outcomes["trained"] == 120


def test_a_schedule_is_the_same_for_the_same_seed_and_strikes_every_role() -> None:
    first = schedule(7, 50, 30.0)
    assert first == schedule(7, 50, 30.0) != schedule(8, 50, 30.0)
    assert set(Counter(strike.role for strike in first)) == set(TARGETS)
