"""k_meta by calibration: chosen on one half, counted on the other."""

from dataclasses import replace

import pytest

from grm.benchmarks import Item, Sample, table
from grm.calibration import best_choice, cross_fitted


def test_the_best_choice_by_hand() -> None:
    assert best_choice([(0.5, 0.75, 0.5), (0.5, 0.5, 0.5)]) == 2
    assert best_choice([(0.0, 1.0, 0.0), (1.0, 0.0, 0.5)]) == 1  # means 1/2, 1/2, 1/4: of equals the smallest
    assert best_choice([(0.1, 0.3), (0.2, 0.0)]) == 1  # 0.3 twice, though not in floats


def test_nobody_chooses_the_k_meta_that_it_is_counted_with() -> None:
    """Each half earns only at the k_meta that the other half would never choose."""
    names = [f"p{i}" for i in range(6)]
    order = list(cross_fitted(dict.fromkeys(names, (0.0,))))
    first = set(order[:3])  # one half comes first in what is returned
    credits = {name: (1.0, 0.0) if name in first else (0.0, 1.0) for name in names}
    assert set(cross_fitted(credits).values()) == {(2, 0.0), (1, 0.0)}


def test_halves_are_the_same_whatever_the_order() -> None:
    credits = {f"p{i}": (i / 7, 1 - i / 7) for i in range(7)}
    assert cross_fitted(credits) == cross_fitted(dict(reversed(credits.items())))
    sizes = [k_meta for k_meta, _ in cross_fitted(credits).values()]
    assert len(sizes) == 7


@pytest.mark.parametrize("credits", [{}, {"p": (0.5, 1.0)}])
def test_one_preference_has_no_other_half(credits: dict[str, tuple[float, ...]]) -> None:
    assert cross_fitted(credits) == {}


def test_weights_and_numbers_of_votes_by_hand() -> None:
    """The meta-RM believes the one right vote of eight a little more than not, and no other: one chosen vote is right, half of
    them are a tie (9 : 3 * 3), and only sharp weights let it win. The items are alike, so each choice is the best one."""
    item = Item(
        id="",
        subset="",
        label=0,
        lengths=(5, 9),
        greedy=None,
        votes=tuple(
            Sample(scores=(10, 1) if right else (5, 8), permutation=(0, 1), tokens=9, meta=0.5 if right else -2.0)
            for right in (True, *[False] * 7)
        ),
    )
    figures = {
        name: figure.value
        for name, figure in table([replace(item, id=name) for name in "abcd"], ks=[8], resamples=10)[-1].figures.items()
    }
    assert (figures["guided@8_one"], figures["guided@8_quarter"], figures["guided@8"]) == (1, 1, 0.5)
    assert (figures["calibrated@8"], figures["k_meta@8"]) == (1, 1)
    # +9 sigma(s/2) against 7 * 3 sigma(-2 s): 4.5 : 10.5, 5.06 : 5.6, 5.6 : 2.5 at s = 0, 1/2, 1
    assert (figures["vote@8"], figures["weighted@8"]) == (0, 1)
    assert (figures["calibrated_weights@8"], figures["sharpness@8"]) == (1, 1)
