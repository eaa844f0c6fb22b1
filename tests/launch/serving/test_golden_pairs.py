"""What each caller sends and what it gets, as golden pairs (`golden/*.json`), over real HTTP and the rule of the fake core.

`"*"` stands for what differs from run to run. The core in them has two votes, of which `unread` cannot be read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from launch.serving.interfaces import INTERFACES
from tests.launch.serving.fake_service import FakeService, Live, live, not_now, unreadable

FAULTS = {"not_now": not_now, "unreadable": unreadable}
FILES = sorted((Path(__file__).parent / "golden").glob("*.json"))
PAIRS = [(file.stem, pair) for file in FILES for pair in json.loads(file.read_text())["pairs"]]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Live, FakeService]]:
    service = FakeService()
    with live(service, *INTERFACES) as running:
        yield running, service


@pytest.mark.parametrize(("interface", "pair"), PAIRS, ids=[f"{name}: {pair['what']}" for name, pair in PAIRS])
def test_a_caller_gets_what_it_reads(server: tuple[Live, FakeService], interface: str, pair: dict[str, Any]) -> None:
    running, service = server
    fault = FAULTS.get(pair.get("fail", ""), lambda: None)
    vars(service).update(vars(FakeService(deadline_s=0.05, unread=pair.get("unread", 0), fail=fault)))
    answer = httpx2.request(pair["method"], running.url + pair["path"], json=pair.get("body"), timeout=30)
    assert answer.status_code == pair["status"]
    assert_same(answer.json(), pair["answer"])


def test_every_interface_has_pairs_that_are_judged_and_pairs_that_are_refused() -> None:
    routes = {pair["path"] for _, pair in PAIRS}
    offered = {getattr(route, "path", "") for interface in INTERFACES for route in interface(FakeService()).routes}
    assert routes == offered
    for file in FILES:
        statuses = {pair["status"] for pair in json.loads(file.read_text())["pairs"]}
        assert 200 in statuses
        assert 503 in statuses
        assert statuses & {400, 422}


def assert_same(found: Any, expected: Any, place: str = "answer") -> None:
    if expected == "*":
        return
    assert type(found) is type(expected), place
    if isinstance(expected, dict):
        assert list(found) == list(expected) or sorted(found) == sorted(expected), place
        for name, value in expected.items():
            assert_same(found[name], value, f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, value in enumerate(expected):
            assert_same(found[number], value, f"{place}.{number}")
    else:
        assert found == (pytest.approx(expected) if isinstance(expected, float) else expected), place
