"""Figures of both orders and of many votes by worked numbers: consistency, summed orders, balanced votes, calibrated ones."""

import math
import random
from typing import Any

import pytest

from grm.judged import Item, Sample
from grm.orders import balanced_orders
from grm.voting import Scores
from tests.grm.test_benchmarks import item, rows, values

FIRST, SECOND = (0, 1), (1, 0)


def sample(scores: Scores | None, permutation: tuple[int, ...] = FIRST, *, tokens: int = 100, **more: Any) -> Sample:
    return Sample(scores=scores, permutation=permutation, tokens=tokens, failure="" if scores else "no_box", **more)


def both(name: str, one: Scores | None, other: Scores | None, *votes: Sample, label: int = 0) -> Item:
    """A pair judged in both orders; scores in the preference's own order."""
    return Item(
        id=name,
        subset="",
        label=label,
        lengths=(30, 20),
        greedy=sample(one, FIRST, tokens=10),
        opposite=sample(other, SECOND, tokens=30),
        votes=votes,
    )


PAIRS = [
    both("right in both", (9, 2), (6, 5)),
    both("always the first place", (9, 2), (2, 9)),
    both("wrong in both", (3, 4), (1, 9)),
    both("tied in both", (5, 5), (5, 5)),
    both("tied once", (5, 5), (9, 2)),
    both("unparsable once", (9, 2), None),
]


def test_a_preference_judged_in_both_orders_counts_the_mean_of_the_two() -> None:
    figures = rows(PAIRS)[-1].figures
    assert figures["greedy"].value == pytest.approx((1 + 1 / 2 + 0 + 1 / 2 + 3 / 4 + 1 / 2) / 6)
    assert figures["greedy_ties_lost"].value == pytest.approx((1 + 1 / 2 + 0 + 0 + 1 / 2 + 1 / 2) / 6)
    assert figures["tie_rate"].value == pytest.approx((0 + 0 + 0 + 1 + 1 / 2 + 0) / 6)
    assert figures["parse_rate"].value == pytest.approx(5.5 / 6)
    assert figures["tokens"].value == 20
    assert (figures["greedy"].rows, figures["greedy"].high <= 1) == (6, True)


def test_a_length_that_nobody_counted_is_no_length_of_0() -> None:
    """A served judge need not say how many tokens it wrote."""
    silent = item("a", sample((9, 2), tokens=0), sample((9, 2), tokens=0))
    assert not {"tokens", "vote_tokens"} & values([silent]).keys()
    told = item("b", sample((9, 2), tokens=30), sample((9, 2), tokens=50))
    assert [values([silent, told])[name] for name in ("tokens", "vote_tokens")] == [30, 50]


def test_each_order_counts_in_its_own_place() -> None:
    figures = rows(PAIRS)[-1].figures
    assert figures["position_1"].value == pytest.approx((1 + 1 + 0 + 1 / 2 + 1 / 2 + 1) / 6)
    assert figures["position_2"].value == pytest.approx((1 + 0 + 0 + 1 / 2 + 1 + 0) / 6)
    middle = item("m", sample((1, 9, 1), (0, 1, 2)), label=1, lengths=(1, 2, 3), opposite=sample((9, 1, 1), (2, 1, 0)))
    assert values([middle])["position_2"] == 1 / 2, "the middle of three stands in one place in both orders"


def test_consistency_is_the_same_single_best_in_both_orders() -> None:
    figures = rows(PAIRS)[-1].figures
    # Of the five with two parsed judgements: yes, no, yes, no (a tie names no best), no.
    assert (figures["consistency"].value, figures["consistency"].rows) == (2 / 5, 5)
    # Right in both orders, a tie or an unparsable one being wrong: the first alone, of all six.
    assert (figures["consistent_accuracy"].value, figures["consistent_accuracy"].rows) == (1 / 6, 6)


def test_a_position_bias_cancels_in_the_sum_of_both_orders() -> None:
    # Two points more for what stands first: (7, 6) is seen as (9, 6) and (7, 8).
    (figure,) = (values([both("a", (9, 6), (7, 8))]),)
    assert (figure["greedy"], figure["greedy_summed"], figure["consistency"]) == (1 / 2, 1.0, 0.0)
    # (15, 7), (11, 11), (4, 13), (10, 10), (14, 7), (9, 2)
    assert values(PAIRS)["greedy_summed"] == pytest.approx((1 + 1 / 2 + 0 + 1 / 2 + 1 + 1) / 6)


def test_one_order_has_no_consistency() -> None:
    figures = values([item("a", sample((9, 2)))])
    assert not {"consistency", "consistent_accuracy", "greedy_summed"} & set(figures)


def test_the_opposite_order_must_be_the_opposite() -> None:
    with pytest.raises(ValueError, match="not of the greedy one's order turned round"):
        item("a", sample((9, 2)), opposite=sample((9, 2)))
    with pytest.raises(ValueError, match="turned round"):
        item("a", None, opposite=sample((9, 2)))


def test_consistency_of_votes_is_over_pairs_of_different_orders() -> None:
    votes = [sample((9, 2), FIRST), sample((9, 2), SECOND), sample((2, 9), FIRST), sample(None, SECOND), sample((5, 5), SECOND)]
    # Parsed: A in order 1, A in order 2, B in order 1, a tie in order 2. Pairs of different orders: AA, A-, BA, B-.
    figures = values([both("a", (9, 2), (9, 2), *votes)], [1])
    assert figures["vote_consistency"] == 1 / 4
    assert "vote_consistency" not in values([both("a", (9, 2), (9, 2), *votes[::2][:2])], [1])


def biased(name: str, size: int, *, label: int) -> Item:
    """Votes of a judge that gives 9 to what stands first, in balanced orders."""
    orders = balanced_orders(2, size, random.Random(name))
    votes = [sample((9, 2) if order == FIRST else (2, 9), order) for order in orders]
    return item(name, None, *votes, label=label)


def test_balanced_votes_are_counted_in_balanced_orders() -> None:
    figures = values([biased("a", 8, label=0), biased("b", 8, label=1)], [1, 2, 3, 8])
    assert figures["vote@2_ties_lost"] == figures["vote@8_ties_lost"] == 0.0, "its bias cancels"
    assert figures["vote@2"] == figures["vote@8"] == 1 / 2
    assert figures["vote_consistency"] == 0.0
    # Of any two of eight, 12 of 28 pairs are of one order: half of those are right, and the others tie.
    assert figures["shuffled@2"] == pytest.approx(6 / 28 + 16 / 28 / 2)
    assert figures["vote@1"] == 1 / 2
    assert "shuffled@1" not in figures, "one vote is one vote"


def test_votes_in_other_orders_are_counted_as_any_k_of_them() -> None:
    drawn = item("a", None, *[sample((9, 2), FIRST)] * 2, *[sample((2, 9), FIRST)] * 2)
    figures = values([drawn], [2])
    assert figures["vote@2_ties_lost"] == 1 / 6
    assert "shuffled@2" not in figures


def test_votes_needed_is_a_mean_over_the_draws() -> None:
    # (10, 1) twice leads by 18, and a third vote can turn 9; (10, 1) and (1, 10) lead by 0.
    sure = item("a", None, *[sample((10, 1))] * 3)
    unsure = item("b", None, sample((10, 1)), sample((1, 10)), sample((10, 1)))
    assert values([sure, unsure], [3])["votes_needed@3"] == (2 + 3) / 2
    assert values([sure], [1])["votes_needed@1"] == 1


def test_weighted_votes() -> None:
    votes = [sample((9, 2), meta=math.log(3)), sample((2, 9), meta=-math.log(3)), sample((2, 9), meta=-math.log(3))]
    figures = values([item("a", None, *votes)], [3])
    # 3/4 (9, 2) + 1/4 (2, 9) + 1/4 (2, 9) = (7.75, 6), where the plain sum is (13, 20).
    assert (figures["vote@3"], figures["weighted@3"]) == (0.0, 1.0)
    assert not [name for name in values([item("a", None, sample((9, 2)))], [1]) if name.startswith(("weighted", "k_meta"))]


def test_calibrated_votes_take_the_k_meta_of_the_other_half() -> None:
    # The judgement that the meta-RM likes best is wrong, the next two are right: k_meta 1 and 2 lose or tie, 3 wins.
    votes = [sample((2, 9), meta=3.0), sample((9, 2), meta=2.0), sample((9, 2), meta=1.0)]
    figures = values([item(name, None, *votes) for name in "abcd"], [3])
    assert (figures["guided@3"], figures["k_meta@3"], figures["calibrated@3"]) == (0.0, 3.0, 1.0)
    alone = values([item("a", None, *votes)], [3])
    assert "calibrated@3" not in alone, "there is nobody else to choose by"


def test_expected_scores_beside_the_written_ones() -> None:
    def judged(name: str, written: Scores, expected: Scores, turned: Scores, *, label: int = 0) -> Item:
        orders = (sample(written, FIRST, expected=expected), sample(written, SECOND, expected=turned))
        return item(name, orders[0], opposite=orders[1], label=label)

    # A bonus of 1 for what stands first; without it a: (7.4, 7.0), b: (5.0, 5.6).
    items = [judged("a", (7, 7), (8.4, 7.0), (7.4, 8.0)), judged("b", (5, 5), (6.0, 5.6), (5.0, 6.6), label=1)]
    figures = values(items)
    assert (figures["greedy"], figures["greedy_ties_lost"], figures["greedy_summed"]) == (1 / 2, 0.0, 1 / 2), "all tied"
    assert (figures["expected"], figures["expected_ties_lost"]) == (1 / 2, 1 / 2), "the bonus decides"
    assert (figures["expected_summed"], figures["expected_consistency"]) == (1.0, 0.0), "and cancels in the sum"


def test_an_unparsable_judgement_has_no_expected_score_and_is_wrong() -> None:
    broken = item("a", sample((9, 2), FIRST, expected=(8.5, 3.0)), opposite=sample(None, SECOND))
    figures = values([broken])
    assert (figures["expected"], figures["expected_summed"]) == (1 / 2, 1.0)
    assert "expected_consistency" not in figures
    without = values([broken, item("b", sample((9, 2)))])
    assert not [name for name in without if name.startswith("expected")], "over the same preferences, or absent"
    with pytest.raises(ValueError, match="give one for each of them"):
        sample((9, 2), expected=(1.0,))
    with pytest.raises(ValueError, match="give one for each of them"):
        sample(None, expected=(1.0, 2.0))


def test_single_responses_have_an_area_by_expected_scores() -> None:
    def single(name: str, label: int, written: float, expected: float) -> Item:
        judged = Sample(scores=(written,), permutation=(0,), tokens=1, expected=(expected,))
        return Item(id=name, subset="", label=label, lengths=(9,), greedy=judged, votes=())

    figures = values([single("r", 1, 7, 7.3), single("w", 0, 7, 6.9)])
    assert (figures["auc_greedy"], figures["auc_expected"]) == (0.5, 1.0)


def test_what_only_the_lenient_reader_read_is_told() -> None:
    samples = [sample((9, 2)), sample((9, 2), strict=False), sample(None)]
    figures = values([item(f"{i}", each, each) for i, each in enumerate(samples)])
    assert (figures["parse_rate"], figures["strict_parse_rate"]) == (2 / 3, 1 / 3)
    assert (figures["vote_parse_rate"], figures["vote_strict_parse_rate"]) == (2 / 3, 1 / 3)
