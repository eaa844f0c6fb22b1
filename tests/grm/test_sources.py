"""Sources of preferences by name."""

import pytest

from grm import tiny_world
from grm.mixing import mixing_place
from grm.preferences import DataError
from grm.sources import load


@pytest.mark.parametrize("source", ["tiny:", "tiny:1", "tiny:a:5", "tiny:1:5:2:3", "tiny:-1:5", "tinyheld:1: 5"])
def test_a_tiny_source_that_is_misspelt_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="write tiny:<seed>:<count>"):
        load(source)


@pytest.mark.parametrize("source", ["tiny:1:0", "tiny:1:5:9", "tinyheld:1:5:0"])
def test_a_tiny_source_out_of_range_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="count must be at least 1 and n one of"):
        load(source)


def test_the_tiny_world_is_a_source() -> None:
    training, held_out = load("tiny:1:20:2"), load("tinyheld:1:20:2", limit=5)
    assert len(training.preferences) == 20
    assert len(held_out.preferences) == 5
    assert all(len(preference.question.responses) == 2 for preference in training.preferences)


def test_both_sides_of_the_tiny_world_are_sources() -> None:
    for source, items in {
        "tiny:3:5:2": tiny_world.preferences(3, 5, 2),
        "tinyheld:3:5": tiny_world.preferences(3, 5, held_out=True),
    }.items():
        assert load(source).preferences == tuple(sorted(items, key=lambda item: mixing_place(item.question.id)))
