"""Position consistency and the excess of the first place, by hand."""

from dataclasses import replace
from itertools import product

import pytest

from buffer.messages import ExperienceGroup
from learner.positions import PositionStats
from tests.learner.run_by_hand import experience

PAIR = replace(experience(0, 0), samples=(2, 2))


def picked(group: ExperienceGroup, picks: tuple[int | None, ...], places: tuple[int | None, ...]) -> ExperienceGroup:
    return replace(group, picks=picks, places=places)


def metrics(*groups: ExperienceGroup) -> dict[str, float]:
    stats = PositionStats()
    for group in groups:
        stats.add(group)
    return stats.metrics()


def test_a_judge_that_goes_by_what_it_reads_is_consistent_and_favours_no_place() -> None:
    assert metrics(picked(PAIR, (1, 1, 1, 1), (1, 1, 0, 0))) == {"position/consistency": 1.0, "position/first_excess": 0.0}


def test_a_judge_that_goes_by_the_place_never_agrees_with_itself() -> None:
    assert metrics(picked(PAIR, (1, 1, 0, 0), (1, 1, 1, 1))) == {"position/consistency": 0.0, "position/first_excess": -0.5}
    assert metrics(picked(PAIR, (0, 0, 1, 1), (0, 0, 0, 0)))["position/first_excess"] == 0.5


def test_pairs_of_one_order_and_judgements_without_a_pick_do_not_count() -> None:
    """Picks 1, 0 | 1, none: of the two pairs across the orders one agrees."""
    found = metrics(picked(PAIR, (1, 0, 1, None), (1, 0, 0, None)))
    assert found == {"position/consistency": 1 / 2, "position/first_excess": pytest.approx(2 / 3 - 1 / 2)}


def test_it_is_a_share_of_all_pairs_and_of_all_picks_whatever_the_group() -> None:
    three = replace(PAIR, responses=3)
    found = metrics(picked(PAIR, (1, 1, 1, 1), (1, 1, 0, 0)), picked(three, (2, None, 0, None), (0, None, 0, None)))
    assert found == {"position/consistency": 4 / 5, "position/first_excess": pytest.approx((2 + 2 - 4 / 2 - 2 / 3) / 6)}


def test_one_order_has_no_consistency_and_a_single_response_nothing() -> None:
    alone = replace(PAIR, prompt_ids=PAIR.prompt_ids[:1], samples=(4,))
    assert metrics(picked(alone, (1, 1, 1, 0), (0, 0, 0, 1))) == {"position/first_excess": 1 / 4}
    assert metrics(replace(alone, responses=1)) == {}


@pytest.mark.parametrize("p", [0.5, 0.8, 0.95])
def test_of_a_position_bias_it_measures_2p_times_1_minus_p(p: float) -> None:
    """Expected by enumeration: each of four judgements says "the second" with probability p, two in each order."""
    agreeing = excess = 0.0
    for places in product((0, 1), repeat=4):
        weight = 1.0
        for place in places:
            weight *= p if place else 1 - p
        picks = (*places[:2], *(1 - place for place in places[2:]))  # shown (0, 1), then (1, 0)
        found = metrics(picked(PAIR, picks, places))
        agreeing += weight * found["position/consistency"]
        excess += weight * found["position/first_excess"]
    assert agreeing == pytest.approx(2 * p * (1 - p))
    assert excess == pytest.approx(1 / 2 - p)
