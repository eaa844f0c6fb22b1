"""Alarms: raised when a limit is passed for some steps, once until it is kept again."""

import math

import pytest

from launch.monitoring.alarms import LIMITS, WINDOW, Alarms, Limit
from launch.monitoring.metrics import METRICS


def titles(alarms: Alarms, **metrics: float) -> list[str]:
    return [alarm.title for alarm in alarms.check({name.replace("__", "/"): value for name, value in metrics.items()})]


@pytest.mark.parametrize("limit", LIMITS, ids=[limit.metric for limit in LIMITS])
def test_a_limit_that_is_passed_is_said_once_until_it_is_kept_again(limit: Limit) -> None:
    assert limit.metric in METRICS
    bad, good = (2 * limit.bound, 0.0) if limit.above else (0.0, 1.0)
    alarms = Alarms(1)
    said = [alarms.check({limit.metric: bad}) for _ in range(2 * WINDOW)]
    assert [len(each) for each in said] == [0] * (WINDOW - 1) + [1] + [0] * WINDOW  # not before there are enough steps
    assert said[WINDOW - 1][0].title == limit.title
    assert limit.remedy in said[WINDOW - 1][0].text
    assert not any(alarms.check({limit.metric: good}) for _ in range(WINDOW))
    assert sum(len(alarms.check({limit.metric: bad})) for _ in range(WINDOW)) == 1


def test_one_bad_step_among_good_ones_is_none() -> None:
    alarms = Alarms(1)
    assert not any(titles(alarms, loss__kl=4.0 if step == 15 else 0.1) for step in range(30))


def test_each_batch_that_was_skipped_is_told() -> None:
    alarms = Alarms(1)
    found = [titles(alarms, optim__skipped_steps=count) for count in (0.0, 0.0, 1.0, 1.0, 3.0)]
    assert found == [[], [], ["a loss is not finite"], [], ["a loss is not finite"]]
    assert titles(alarms, optim__skipped_steps=0.0) == []  # the learner was replaced and counts anew
    assert titles(alarms, optim__skipped_steps=1.0) == ["a loss is not finite"]


def test_a_group_over_the_bound_is_told() -> None:
    alarms = Alarms(1)
    assert titles(alarms, staleness__max=1.0) == []
    assert titles(alarms, staleness__max=2.0) == ["a group was staler than the bound"]


def test_a_second_time_over_the_bound_is_told_as_well() -> None:
    alarms = Alarms(1)
    over = [bool(titles(alarms, staleness__max=stalest)) for stalest in (2.0, 3.0, 1.0, 2.0, 2.0)]
    assert over == [True, False, False, True, False]
    assert titles(alarms) == [], "a step without the metric is no recovery"
    assert titles(alarms, staleness__max=2.0) == []


@pytest.mark.parametrize("limit", LIMITS, ids=[limit.metric for limit in LIMITS])
@pytest.mark.parametrize("odd", [[math.nan], [math.inf, -math.inf]], ids=["nan", "both infinities"])
def test_a_mean_that_is_not_a_number_keeps_no_limit(limit: Limit, odd: list[float]) -> None:
    alarms, good = Alarms(1), 0.0 if limit.above else 1.0
    for value in [good] * (WINDOW - len(odd)):
        assert alarms.check({limit.metric: value}) == []
    said = [alarm.text for value in odd for alarm in alarms.check({limit.metric: value})]
    assert said == [f"{limit.metric} is not a number: {limit.remedy}"]
    said = [alarm.text for _ in range(WINDOW) for alarm in alarms.check({limit.metric: math.nan})]
    assert said == [], "once"


def test_a_count_or_an_age_that_is_not_a_number_is_told() -> None:
    assert titles(Alarms(1), optim__skipped_steps=math.nan) == ["a loss is not finite"]
    assert titles(Alarms(1), staleness__max=math.nan) == ["a group was staler than the bound"]


def test_a_metric_that_is_missing_counts_as_no_step() -> None:
    alarms = Alarms(1)
    assert not any(titles(alarms) or titles(alarms, loss__kl=5.0) for _ in range(WINDOW - 1))
    assert titles(alarms, loss__kl=5.0) == ["the policy moves far from its reference"]
