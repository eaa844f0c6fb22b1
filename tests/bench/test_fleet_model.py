"""The model of a fleet gives what can be worked out by hand, and names the part that is the bound."""

from dataclasses import replace

import pytest

from tests.bench.fleet_model import Costs, Fleet, simulate

FREE = Costs(issue_s=0, sample_s=0, reward_s=0, learn_s=0, poll_s=0, driver_s=0, judging_s=0, intake_s=0)
LONE = Fleet(workers=1, places=1, group_s=1.0, sigma=0.0, batch=1, max_staleness=0, step_s=1.0, pause_s=0.0, poll_every_s=0.05)
MANY = replace(LONE, workers=100, places=4, batch=200, max_staleness=5, step_s=0.1)  # 400 groups/s


def test_without_staleness_generation_and_training_take_turns() -> None:
    assert simulate(LONE, FREE).rate == pytest.approx(0.5)


def test_with_staleness_they_overlap() -> None:
    assert simulate(replace(LONE, max_staleness=1), FREE).rate == pytest.approx(1.0)


def test_where_nothing_costs_anything_the_engines_are_the_bound() -> None:
    found = simulate(MANY, FREE, steps=30)
    assert found.rate == pytest.approx(MANY.own_rate, rel=0.02)
    assert found.bound.startswith("engines at work")


@pytest.mark.parametrize(
    ("costs", "rate", "bound"),
    [
        (replace(FREE, judging_s=0.01), 100, "the reward actors"),
        (replace(FREE, driver_s=0.005), 200, "the driver"),
        (replace(FREE, intake_s=0.0095), 100, "the learner"),  # with the step, 2 s for 200 groups
        (replace(FREE, reward_s=0.004, sample_s=0.004), 125, "the Redis server"),
    ],
)
def test_the_slowest_part_is_the_bound_and_is_named(costs: Costs, rate: float, bound: str) -> None:
    found = simulate(MANY, costs, steps=30)
    assert found.rate == pytest.approx(rate, rel=0.1)
    assert found.bound.startswith(bound)


def test_two_reward_actors_do_twice_as_much() -> None:
    assert simulate(replace(MANY, rewards=2), replace(FREE, judging_s=0.01), steps=30).rate == pytest.approx(200, rel=0.1)


def test_weights_that_come_while_a_group_is_decoded_make_it_longer() -> None:
    """A group of 1 s spans the two versions that come in a second. Each stops it for 0.1 s, and so do those that come then."""
    steady = replace(MANY, batch=200, pause_s=0.0)
    paused = replace(steady, pause_s=0.1)
    assert 0.75 < simulate(paused, FREE, steps=30).rate / simulate(steady, FREE, steps=30).rate < 0.9


def test_polls_that_the_server_cannot_answer_hold_up_the_reward_actor() -> None:
    """10,000 workers that poll 20 times a second for 40 µs: each call waits 0.35 s in their line."""
    crowd = replace(MANY, workers=10_000, places=1, group_s=100.0, batch=5_000, step_s=10.0)  # 100 groups/s
    assert simulate(crowd, FREE, steps=6).rate == pytest.approx(100, rel=0.05)
    found = simulate(crowd, replace(FREE, poll_s=40e-6), steps=2)
    assert found.rate < 4
    assert found.busy["the Redis server"] == 1.0


def test_the_same_seed_gives_the_same_outcome() -> None:
    fleet = replace(MANY, sigma=0.5)
    assert simulate(fleet, FREE, seed=1) == simulate(fleet, FREE, seed=1) != simulate(fleet, FREE, seed=2)
