"""What a group teaches a judge with a position bias, in one order of its responses and in both: exactly, by enumeration.

The judge of two responses says "the second" with probability sigma(h + c) where the best stands second and sigma(h - c) where
it stands first: h is its bias, c its sense of what it reads. With s = [second] - P(second), the gradient of a completion's
log-prob is s along h, and s or -s along c. A group's gradient is the mean of A s over its completions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from learner.advantages import normalised

GROUP = 4
BOTH = (True, True, False, False)  # of each completion: whether the best stands second
ONE = ((True,) * GROUP, (False,) * GROUP)  # which of the two is drawn


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A possible group."""

    probability: float
    bias: float  # gradient along h
    sense: float  # gradient along c
    informative: bool


def lessons(best_second: tuple[bool, ...], h: float, c: float) -> Iterator[Lesson]:
    """All possible groups that read these orders."""
    seconds = [1 / (1 + math.exp(-(h + (c if at_second else -c)))) for at_second in best_second]
    for said in product((True, False), repeat=len(best_second)):
        probability = math.prod(p if second else 1 - p for second, p in zip(said, seconds, strict=True))
        rewards = [1.0 if second == at_second else -1.0 for second, at_second in zip(said, best_second, strict=True)]
        pushes = [a * (second - p) for a, second, p in zip(normalised(rewards), said, seconds, strict=True)]
        yield Lesson(
            probability=probability,
            bias=sum(pushes) / GROUP,
            sense=sum(push if at_second else -push for push, at_second in zip(pushes, best_second, strict=True)) / GROUP,
            informative=len(set(rewards)) > 1,
        )


def in_both_orders(h: float, c: float = 0.0) -> list[Lesson]:
    return [*lessons(BOTH, h, c)]


def in_one_order(h: float, c: float = 0.0) -> list[Lesson]:
    return [Lesson(**{**vars(x), "probability": x.probability / 2}) for order in ONE for x in lessons(order, h, c)]


def mean(found: list[Lesson], of: str) -> float:
    return sum(lesson.probability * getattr(lesson, of) for lesson in found)


def deviation(found: list[Lesson], of: str) -> float:
    return math.sqrt(sum(x.probability * getattr(x, of) ** 2 for x in found) - mean(found, of) ** 2)


BIAS = math.log(0.95 / 0.05)  # says "the second" in 95 of 100 cases


def test_in_one_order_a_bias_leaves_most_groups_without_a_gradient_and_in_both_hardly_any() -> None:
    assert mean(in_one_order(BIAS), "informative") == pytest.approx(0.1855, abs=5e-5)  # 1 - 0.95^4 - 0.05^4
    assert mean(in_both_orders(BIAS), "informative") == pytest.approx(0.9955, abs=5e-5)  # 1 - 2 (0.95 * 0.05)^2


@pytest.mark.parametrize("h", [-2.0, 0.0, 0.5, BIAS])
def test_a_bias_alone_gains_and_loses_nothing_on_average_in_either_form(h: float) -> None:
    """The mean reward is 0 whatever h is."""
    assert mean(in_one_order(h), "bias") == pytest.approx(0, abs=1e-12)
    assert mean(in_both_orders(h), "bias") == pytest.approx(0, abs=1e-12)


def test_in_one_order_each_group_shoves_the_bias_one_way_or_the_other_and_in_both_it_hardly_moves() -> None:
    assert deviation(in_one_order(BIAS), "bias") == pytest.approx(0.1635, abs=5e-5)
    assert deviation(in_both_orders(BIAS), "bias") == pytest.approx(0.0518, abs=5e-5)


def test_a_sense_beside_the_bias_has_nearly_the_same_mean_gradient_in_both_forms_and_the_noise_of_the_design() -> None:
    """The table in docs/design.md, section 4, c = 0.5: mean and deviation along h, then along c."""
    for found, figures in (
        (in_one_order(BIAS, 0.5), (-0.0317, 0.1676, 0.0763, 0.1525)),
        (in_both_orders(BIAS, 0.5), (-0.0300, 0.0520, 0.0711, 0.0549)),
    ):
        assert [of(found, name) for name in ("bias", "sense") for of in (mean, deviation)] == pytest.approx(figures, abs=6e-5)


def test_a_group_that_follows_its_bias_throughout_is_silent_in_one_order_and_teaches_the_sense_alone_in_both() -> None:
    """Four times "the second": A = 0 in one order; in both +-0.866, which cancels along h and adds up along c."""
    alone, both = in_one_order(BIAS)[0], in_both_orders(BIAS)[0]
    assert (alone.bias, alone.sense) == (0, 0)
    assert both.bias == pytest.approx(0, abs=1e-12)
    assert both.sense == pytest.approx(math.sqrt(3) / 2 * 0.05, rel=1e-5)


@pytest.mark.parametrize("c", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("h", [0.5, 1.0, BIAS])
def test_a_judge_with_some_sense_is_pushed_off_its_bias_and_in_both_orders_with_less_noise(h: float, c: float) -> None:
    for sign in (1, -1):
        one, both = in_one_order(sign * h, c), in_both_orders(sign * h, c)
        for found in (one, both):
            assert sign * mean(found, "bias") < 0, "towards 0, whichever place it favours"
            assert mean(found, "sense") > 0
        for of in ("bias", "sense"):
            assert abs(mean(both, of)) / deviation(both, of) > abs(mean(one, of)) / deviation(one, of)
