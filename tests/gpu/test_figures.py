"""Figures: what passes, and what is never called passed."""

import json
import math

import pytest

from tests.gpu.figures import Figure, failed, figure, not_run, state_of


def test_a_figure_passes_within_its_bounds_alone() -> None:
    assert figure("MFU", 0.45, least=0.45).state == "passed"
    assert figure("MFU", 0.44, least=0.45).state == "failed"
    assert figure("pause", 2.1, most=2.0).state == "failed"
    assert figure("seconds", 3.0, "s").state == "recorded"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fails_and_is_json(value: float) -> None:
    found = figure("loss", value)
    assert found.state == "failed"
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert (record["value"], record["why"]) == (None, f"the value is {value}")


def test_what_was_expected_stands_beside_it() -> None:
    assert figure("ratio", 0.9, least=0.7, most=1.0).record()["expected"] == ">= 0.7 and <= 1"
    assert figure("ratio", 0.9).record()["expected"] == "nothing"


def test_a_part_is_what_its_worst_figure_is() -> None:
    good, noted, bad, absent = figure("a", 1, most=2), figure("b", 1), failed("c", "error"), not_run("d", "no vllm")

    def state(*figures: Figure) -> str:
        return state_of([each.record() for each in figures])

    assert state(good, noted) == "passed"
    assert state(good, absent) == "partly run"
    assert state(good, absent, bad) == "failed"
    assert state(absent) == state() == "not run"
