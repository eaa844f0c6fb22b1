"""The worked examples in docstrings hold, in every module that has some."""

import doctest
import importlib

import pytest

from tests.docs.test_documents import ROOMS, ROOT

MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for file in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


def test_there_are_some() -> None:
    assert "launch.driver.summary" in MODULES


@pytest.mark.parametrize("module", [each for each in MODULES if not each.startswith("tests.")])
def test_worked_examples_hold(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted
    assert not found.failed
