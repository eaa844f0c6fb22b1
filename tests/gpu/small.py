"""Running the checks of a card on a CPU, with tiny shapes."""

from typing import Any

from tests.gpu.parts import Check


def passes(check: Check, subject: Any) -> None:
    """Assert that a check finds figures, and that none of them failed. What only a card counts is not run."""
    found = list(check(subject))
    bad = [figure.record() for figure in found if figure.state == "failed"]
    assert not bad, bad
    lacking = {figure.why for figure in found if figure.state == "not run"}
    assert lacking <= ONLY_ON_A_CARD, lacking
    assert {figure.state for figure in found} & {"passed", "recorded"}, found


ONLY_ON_A_CARD = {"only a card counts it", "what CPU does at best is not in tests/gpu/flops.py"}
