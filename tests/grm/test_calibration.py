"""k_meta by calibration: chosen on one half, counted on the other."""

import pytest

from grm.calibration import best_k_meta, cross_fitted


def test_the_best_k_meta_by_hand() -> None:
    assert best_k_meta([(0.5, 0.75, 0.5), (0.5, 0.5, 0.5)]) == 2
    assert best_k_meta([(0.0, 1.0, 0.0), (1.0, 0.0, 0.5)]) == 1  # means 1/2, 1/2, 1/4: of equals the smallest
    assert best_k_meta([(0.1, 0.3), (0.2, 0.0)]) == 1  # 0.3 twice, though not in floats


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
